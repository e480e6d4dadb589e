/** Packets made by hand on both sides of lb4, so that every field of what comes out is seen. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Balancer, startBalancer } from '../lab/balancer.ts';
import { Capture } from '../lab/capture.ts';
import { endToEnd, passthroughBy, wired } from '../lab/end-to-end.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';
import { ACK, FIN, ICMP, ipv4, type Parsed, PSH, parseIpv4, RawHost, RST, SYN, UDP } from '../lab/wire.ts';

const RAW_PORT = 8080;
const RAW_SERVER = '10.72.0.50';

endToEnd((driver) => {
  let lab: Topology;
  let balancer: Balancer;
  let client: RawHost;
  let server: RawHost;
  let nextPort = 5_000;
  /** Ports that lb4 has chosen, from a random one on. */
  const natPorts = new Set<number>();

  beforeAll(async () => {
    lab = new Topology({ servers: 1 });
    lab.setOffloads('off');
    wired(driver, lab);
    await lab.startBackends();
    client = await RawHost.attach(lab.client, 'eth0', '10.71.0.200', { namespace: lab.balancer, device: 'front' });
    server = await RawHost.attach(lab.servers[0] ?? lab.client, 'eth0', RAW_SERVER, { namespace: lab.balancer, device: 'back' });
    server.answerHealthChecks();
    const { frontends } = lab.settings();
    balancer = await startBalancer(lab.balancer, {
      frontends: { ...frontends, raw: { listen: `${VIP}:${RAW_PORT}`, servers: [`${RAW_SERVER}:${RAW_PORT}`] } },
      more: passthroughBy(driver),
    });
  });

  afterAll(async () => {
    const exit = await balancer?.stop();
    await lab?.[Symbol.asyncDispose]();
    expect(exit).toEqual({ code: 0, signal: null });
  });

  const toRaw = (packet: Parsed): boolean => packet.destinationPort === RAW_PORT && packet.sourcePort > 33_767;

  interface Opened {
    /** The client's port, and the port that lb4 chose. */
    port: number;
    natPort: number;
  }

  /** Opens a connection from the raw client to the raw server: SYN, SYN+ACK, ACK. */
  async function open(): Promise<Opened> {
    const port = nextPort++;
    const ask = () => client.send({ destination: VIP, sourcePort: port, destinationPort: RAW_PORT, id: port, flags: SYN, sequence: 1000 });
    ask();
    // As any client does: on a busy machine a single frame may be lost.
    const again = setInterval(ask, 1000);
    const syn = await server
      .expect('the SYN', (packet) => toRaw(packet) && packet.id === port && packet.flags === SYN)
      .finally(() => clearInterval(again));
    const back = { destination: VIP, sourcePort: RAW_PORT, destinationPort: syn.sourcePort };
    server.send({ ...back, flags: SYN | ACK, sequence: 7000, acknowledgment: 1001 });
    const answer = await client.expect('the SYN+ACK', (packet) => packet.destinationPort === port);
    expect(answer).toMatchObject({ source: VIP, sourcePort: RAW_PORT, flags: SYN | ACK, sequence: 7000, checksumsRight: true });
    client.send({ destination: VIP, sourcePort: port, destinationPort: RAW_PORT, flags: ACK, sequence: 1001, acknowledgment: 7001 });
    await server.expect('the ACK', (packet) => toRaw(packet) && packet.flags === ACK);
    natPorts.add(syn.sourcePort);
    return { port, natPort: syn.sourcePort };
  }

  const fromClient = (port: number) => ({
    destination: VIP,
    sourcePort: port,
    destinationPort: RAW_PORT,
    sequence: 1001,
    acknowledgment: 7001,
  });
  const fromServer = (port: number) => ({
    destination: VIP,
    sourcePort: RAW_PORT,
    destinationPort: port,
    sequence: 7001,
    acknowledgment: 1001,
  });

  /** Runs `act` and tells by how much a verdict's count grew (waits for at least one). */
  async function counted(name: string, act: () => unknown): Promise<number> {
    const before = await balancer.verdict(name);
    await act();
    return waitUntil(async () => (await balancer.verdict(name)) - before || undefined, { what: `verdict ${name}` });
  }

  test('only addresses, ports, TTL and checksums change, in both directions', async () => {
    const { port, natPort } = await open();
    const kept = { tos: 0xb8, id: 4711, dontFragment: true, window: 321, payload: Buffer.from('odd'), flags: PSH | ACK };
    const tcpOptions = Buffer.from('0101080a0000000100000002', 'hex');
    client.send({ ...fromClient(port), ...kept, tcpOptions, ttl: 44 });
    expect(await server.expect('data', (packet) => packet.payload.length === 3)).toMatchObject({
      ...kept,
      tcpOptions,
      ttl: 43,
      source: VIP,
      destination: RAW_SERVER,
      sourcePort: natPort,
      destinationPort: RAW_PORT,
      sequence: 1001,
      acknowledgment: 7001,
      checksumsRight: true,
    });
    server.send({ ...fromServer(natPort), ...kept, tcpOptions, ttl: 64 });
    expect(await client.expect('data', (packet) => packet.payload.length === 3)).toMatchObject({
      ...kept,
      tcpOptions,
      ttl: 63,
      source: VIP,
      destination: client.address,
      sourcePort: RAW_PORT,
      destinationPort: port,
      checksumsRight: true,
    });
  });

  test('frames padded to 60 bytes: the padding is not taken for payload', async () => {
    const { port, natPort } = await open();
    for (const length of [0, 1, 5]) {
      const payload = Buffer.alloc(length, 'x');
      client.send({ ...fromClient(port), flags: PSH | ACK, payload, id: 60 + length }, 60, 0xaa);
      const out = await server.expect('the packet', (packet) => packet.id === 60 + length);
      expect(out).toMatchObject({ totalLength: 40 + length, payload, checksumsRight: true, padding: 0 });
      server.send({ ...fromServer(natPort), flags: PSH | ACK, payload, id: 70 + length }, 60, 0xaa);
      const back = await client.expect('the packet', (packet) => packet.id === 70 + length);
      expect(back).toMatchObject({ totalLength: 40 + length, payload, checksumsRight: true, padding: 0 });
    }
  });

  test('IP options are kept, and a real server understands them', async () => {
    const capture = await Capture.start(lab.servers[0] ?? lab.client, 'eth0', `tcp port ${ECHO}`);
    const port = nextPort++;
    // No-operation, then record route (RFC 791, type 7) with room for two addresses.
    const options = Buffer.from([1, 7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    const toEcho = { destination: VIP, sourcePort: port, destinationPort: ECHO, options };
    client.send({ ...toEcho, flags: SYN, sequence: 1 });
    const answer = await client.expect('the SYN+ACK', (packet) => packet.destinationPort === port && packet.flags === (SYN | ACK));
    expect(answer.checksumsRight).toBe(true);
    client.send({ ...toEcho, flags: ACK, sequence: 2, acknowledgment: answer.sequence + 1 });
    const greeting = await client.expect('the greeting', (packet) => packet.destinationPort === port && packet.payload.includes('server1'));
    const acknowledgment = greeting.sequence + greeting.payload.length;
    client.send({ ...toEcho, flags: ACK | PSH, sequence: 2, acknowledgment, payload: Buffer.from('with options') });
    const echoed = await client.expect('the echo', (packet) => packet.destinationPort === port && packet.payload.includes('with options'));
    expect(echoed.checksumsRight).toBe(true);
    client.send({ ...toEcho, flags: RST, sequence: 14 });
    const lines = (await capture.stop('-vv')).filter((line) => line.includes('options (NOP,RR'));
    expect(lines.length).toBeGreaterThanOrEqual(2);
    expect(lines.filter((line) => /bad cksum|incorrect/.test(line))).toEqual([]);
  });

  test('TTL 1: time exceeded from the VIP, quoting the packet; nothing reaches the server', async () => {
    const { port } = await open();
    server.received.length = 0;
    for (const flags of [SYN, ACK]) {
      const sourcePort = flags === SYN ? nextPort++ : port;
      const sent = { ...fromClient(port), sourcePort, flags, ttl: 1, id: 99 };
      expect(await counted('timeExceeded', () => client.send(sent))).toBe(1);
      const error = await client.expect('time exceeded', (packet) => packet.protocol === ICMP);
      expect(error).toMatchObject({ source: VIP, type: 11, code: 0, checksumsRight: true });
      const quoted = parseIpv4(error.payload);
      expect(quoted).toMatchObject({
        source: client.address,
        destination: VIP,
        sourcePort,
        destinationPort: RAW_PORT,
        id: 99,
        sequence: 1001,
      });
    }
    expect(server.received.filter(toRaw)).toEqual([]);
  });

  test('TTL 2 is forwarded with TTL 1', async () => {
    const { port } = await open();
    client.send({ ...fromClient(port), flags: ACK, ttl: 2, id: 22 });
    expect((await server.expect('the packet', (packet) => packet.id === 22)).ttl).toBe(1);
  });

  test('a segment of no known connection is answered with a reset as RFC 9293 says', async () => {
    const base = { destination: VIP, destinationPort: HTTP, sequence: 500, payload: Buffer.from('12345') };
    const expectReset = (port: number): Promise<Parsed> =>
      client.expect('a reset', (packet) => packet.destinationPort === port && (packet.flags & RST) !== 0);
    const first = nextPort++;
    expect(await counted('resetUnknown', () => client.send({ ...base, sourcePort: first, flags: ACK | PSH, acknowledgment: 900 }))).toBe(1);
    expect(await expectReset(first)).toMatchObject({ source: VIP, sourcePort: HTTP, flags: RST, sequence: 900, checksumsRight: true });
    // Without ACK: sequence 0, and it acknowledges all that the segment took up.
    const second = nextPort++;
    client.send({ ...base, sourcePort: second, flags: FIN });
    expect(await expectReset(second)).toMatchObject({ flags: RST | ACK, sequence: 0, acknowledgment: 506, checksumsRight: true });
  });

  test('a reset of no known connection is never answered', async () => {
    const port = nextPort++;
    expect(await counted('dropStray', () => client.send({ ...fromClient(port), flags: RST }))).toBe(1);
    expect(client.received.filter((packet) => packet.destinationPort === port)).toEqual([]);
  });

  const payload = Buffer.from(Array.from({ length: 2_000 }, (_, i) => i));

  function sendFragment(port: number, id: number, from: number, to?: number): void {
    const whole = ipv4({ ...fromClient(port), source: client.address, flags: ACK | PSH, id, payload });
    const place = { id, fragmentOffset: from, moreFragments: to !== undefined };
    client.sendFragment({ ...fromClient(port), ...place }, whole.subarray(20 + from, 20 + (to ?? 2_020)));
  }

  const joined = test.runIf(driver.joinsFragments);
  joined('fragments are put together, in whatever order they come; what stays incomplete goes nowhere, and service goes on', async () => {
    const { port } = await open();
    server.received.length = 0;
    sendFragment(port, 6, 0, 1_000);
    sendFragment(port, 5, 1_000);
    sendFragment(port, 5, 0, 1_000);
    const { packet } = await server.expectWhole('the packet', 5);
    expect(packet).toMatchObject({ payload, flags: ACK | PSH, checksumsRight: true });
    await open();
    expect(server.received.filter(({ id }) => id === 6)).toEqual([]);
  });

  test.skipIf(driver.joinsFragments)('fragments are counted and go nowhere, and service goes on', async () => {
    const { port } = await open();
    server.received.length = 0;
    expect(await counted('dropFragment', () => sendFragment(port, 5, 1_000))).toBe(1);
    expect(await counted('dropFragment', () => sendFragment(port, 5, 0, 1_000))).toBe(1);
    await open();
    expect(server.received.filter(({ id }) => id === 5)).toEqual([]);
  });

  test('malformed packets do no harm', async () => {
    const { port, natPort } = await open();
    const good = { ...fromClient(port), flags: ACK };
    // A TCP data offset of 15 words in a header of 5; one of 0; and a segment cut in its header.
    client.sendRaw(good, (packet) => packet.writeUInt8(0xf0, 32));
    client.sendRaw(good, (packet) => packet.writeUInt8(0x00, 32));
    client.sendRaw(good, (packet) => packet.writeUInt16BE(28, 2));
    // An IP header length beyond the packet; a total length beyond the frame.
    client.sendRaw(good, (packet) => packet.writeUInt8(0x4f, 0));
    client.sendRaw(good, (packet) => packet.writeUInt16BE(1500, 2));
    server.send({ ...fromServer(natPort), flags: ACK | PSH, payload: Buffer.from('still here') });
    expect((await client.expect('data', (packet) => packet.destinationPort === port)).payload.toString()).toBe('still here');
  });

  test('replies count only from the server that the connection is with', async () => {
    const { port, natPort } = await open();
    client.received.length = 0;
    // Another host, and another port of the same host, to the same VIP port.
    server.send({ ...fromServer(natPort), source: '10.72.0.77', flags: ACK | PSH, payload: Buffer.from('forged') });
    server.send({ ...fromServer(natPort), sourcePort: RAW_PORT + 1, flags: ACK | PSH, payload: Buffer.from('forged') });
    server.send({ ...fromServer(natPort), flags: ACK | PSH, payload: Buffer.from('genuine') });
    expect((await client.expect('data', (packet) => packet.destinationPort === port)).payload.toString()).toBe('genuine');
    expect(client.received.filter((packet) => packet.payload.includes('forged'))).toEqual([]);
  });

  test('UDP to a frontend’s port is none of lb4’s business', async () => {
    const udp = lab.balancer.start([
      process.execPath,
      '-e',
      `const s = require('dgram').createSocket('udp4');
     s.on('message', (m, from) => s.send('kernel ' + m, from.port, from.address));
     s.bind(${HTTP}, '${VIP}', () => console.log('bound'));`,
    ]);
    await udp.line(/bound/);
    const port = nextPort++;
    client.send({ destination: VIP, protocol: UDP, sourcePort: port, destinationPort: HTTP, payload: Buffer.from('hello') });
    const answer = await client.expect('the datagram', (packet) => packet.protocol === UDP && packet.destinationPort === port);
    expect(answer.payload.toString()).toBe('kernel hello');
    await udp.stop();
  });

  test('ping of the VIP is the kernel’s', async () => {
    expect((await lab.client.run('ping', '-c1', '-W2', VIP)).code).toBe(0);
  });

  test('an ICMP error about a connection reaches its owner, quoting the connection as the owner knows it', async () => {
    const { port } = await open();
    client.send({ ...fromClient(port), flags: ACK | PSH, payload: Buffer.alloc(600), id: 8 });
    const forwarded = await server.expect('data', (packet) => packet.id === 8);
    // A router behind lb4 finds the server unreachable (type 3 code 1), quoting the packet's first 28 bytes.
    const quote = server.quote(forwarded);
    const grown = await counted('icmpTranslated', () =>
      server.send({ source: '10.72.0.99', destination: VIP, protocol: ICMP, type: 3, code: 1, payload: quote }),
    );
    expect(grown).toBe(1);
    const error = await client.expect('the ICMP error', (packet) => packet.protocol === ICMP);
    expect(error).toMatchObject({ type: 3, code: 1, destination: client.address, checksumsRight: true });
    expect(parseIpv4(error.payload)).toMatchObject({
      source: client.address,
      destination: VIP,
      sourcePort: port,
      destinationPort: RAW_PORT,
      sequence: 1001,
      checksumsRight: true,
    });
    // The same about nobody's connection goes nowhere.
    let nobodys = 61_000;
    while (natPorts.has(nobodys)) nobodys--;
    const stray = server.quote({ ...forwarded, sourcePort: nobodys });
    await counted('dropIcmp', () =>
      server.send({ source: '10.72.0.99', destination: VIP, protocol: ICMP, type: 3, code: 1, payload: stray }),
    );
    expect(client.received.filter((packet) => packet.protocol === ICMP)).toEqual([]);
  });

  test('a connection to a real server still works after all this', async () => {
    expect((await lab.client.run('curl', '-sS', `http://${VIP}/`)).stdout).toBe('server1\n');
    expect((await balancer.stats()).backends['http-out']?.servers[`${serverAddress(0)}:${HTTP}`]).toBe(true);
  });
});
