/**
 * A pool that grows and shrinks each second for 30 s under 500 TCP and 500 UDP sessions, in network namespaces: how many sessions moved to
 * another server, or ended. None may: then this fails. Root. (test/unit/weights.test.ts has it in a world's own time, for each scheduler.)
 */
import { renameSync, writeFileSync } from 'node:fs';
import { launch, withSizes } from '../test/lab/balancer.ts';
import { holdConnections, othersLiveOn, report } from '../test/lab/hold.ts';
import { ECHO, serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { serveUdp, UdpClients } from '../test/lab/udp.ts';
import { pause } from '../test/lab/wait.ts';

const [SESSIONS, SECONDS, SERVERS, WHO] = [500, 30, 4, 9000];

/** Over the servers of these indexes, whose names stay theirs; whoever leaves drains for longer than all of this takes. */
function text(servers: readonly number[]): string {
  const over = (name: string, port: number, protocol: string) => {
    const frontend = `[frontends.${name}]\nlisten_addr = "${VIP}:${port}"\nprotocol = "${protocol}"\nbackend = "${name}"\n`;
    const backend = `[backends.${name}]\nhealth_check = "none"\ndrain_timeout = 600\n`;
    return frontend + backend + servers.map((i) => `servers.s${i}.addr = "${serverAddress(i)}:${port}"\n`).join('');
  };
  return `${over('echo', ECHO, 'tcp')}${over('who', WHO, 'udp')}${withSizes('')}\n`;
}

async function main(): Promise<void> {
  await using lab = new Topology({ servers: SERVERS });
  await lab.startBackends();
  for (const [i, server] of lab.servers.entries()) await serveUdp(server, `server${i + 1}`, WHO);
  const all = lab.servers.map((_, i) => i);
  const running = launch(lab.balancer, text(all));
  await running.line(/"msg":"ready"/);
  const [, file = ''] = /"file":"([^"]+)"/.exec(running.lines.find((line) => line.includes('"ready"')) ?? '') ?? [];
  const hold = await holdConnections(lab.client, SESSIONS, `${VIP}:${ECHO}`, 1000);
  const clients = new UdpClients(lab.client);
  const names = async () => {
    const each: string[] = [];
    for (let number = 0; number < SESSIONS; number++) each.push((await clients.ask(number, `${VIP}:${WHO}`, 'who')).join());
    return each;
  };
  const before = { tcp: await report(hold), udp: await names() };
  let members = all;
  for (let second = 1; second <= SECONDS; second++) {
    const at = Math.floor(Math.random() * SERVERS);
    const others = members.filter((i) => i !== at);
    // One more or one less, and one at least.
    members = others.length === members.length ? [...members, at] : others.length > 0 ? others : all;
    const done = running.nextLine(/"msg":"configuration reloaded"/);
    writeFileSync(`${file}.new`, text(members));
    renameSync(`${file}.new`, file);
    await Promise.all([done, pause(1000)]);
  }
  const dead = await othersLiveOn(hold);
  const after = { tcp: await report(hold), udp: await names() };
  const moved = {
    tcp: after.tcp.filter(({ server }, i) => server !== before.tcp[i].server).length,
    udp: after.udp.filter((server, i) => server !== before.udp[i]).length,
  };
  console.log(
    `${SECONDS} changes: of ${SESSIONS} sessions each ${moved.tcp} of TCP and ${moved.udp} of UDP moved, ${dead.length} of TCP ended`,
  );
  if (moved.tcp + moved.udp + dead.length > 0) process.exitCode = 1;
}

await main();
