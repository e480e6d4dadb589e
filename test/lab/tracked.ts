/**
 * Real connections through lb4's tracking, in passthrough or DSR: client and server are sockets of two kernels, led by hand
 * (peer.ts), each pair by a frontend of its own, and between them are wires that lose what they are told to.
 */
import { type Balancer, startBalancer, UNTALKATIVE } from './balancer.ts';
import { SERVERS as DSR_SERVERS, VIP as DSR_VIP, DsrTopology } from './dsr-topology.ts';
import type { Namespace } from './lab.ts';
import { type Peer, Peers } from './peer.ts';
import { serverAddress, Topology, VIP } from './topology.ts';
import { waitUntil } from './wait.ts';

/** Of the frontends, as many as pairs. */
const FIRST = 9_001;

/** Seconds, by the names of `[passthrough.timeouts]`. */
export type Timeouts = Readonly<Record<'syn' | 'established' | 'fin' | 'time_wait' | 'closed', number>>;

/** What is lost: on the way to lb4, on the way to the server behind lb4, on the way to the client; or on arrival. */
export type Place = 'toBalancer' | 'toServer' | 'toClient' | 'atServer' | 'atClient';

/** For {@link Pair.lose}: of all that fits, the first alone. */
export const ONCE = 'numgen inc mod 1000000 == 0';

export class Tracked {
  readonly mode: 'passthrough' | 'dsr';
  readonly lab: Topology | DsrTopology;
  readonly vip: string;
  readonly client: Namespace;
  readonly server: Namespace;
  readonly address: string;
  readonly #pairs: number;
  balancer!: Balancer;
  #clients!: Peers;
  #servers!: Peers;
  #next = FIRST;

  private constructor(mode: 'passthrough' | 'dsr', pairs: number) {
    const dsr = mode === 'dsr';
    this.mode = mode;
    this.#pairs = pairs;
    // Two on a side, so that there is a switch.
    this.lab = dsr ? new DsrTopology() : new Topology({ clients: 2, servers: 2 });
    this.vip = dsr ? DSR_VIP : VIP;
    this.address = dsr ? DSR_SERVERS[0] : serverAddress(0);
    this.client = this.lab.client;
    this.server = this.lab.servers[0];
  }

  /** `pairs`: how many there may be; each has a frontend. `server`: lines for each frontend's server. `passthrough`: lines for that section. */
  static async start(
    mode: 'passthrough' | 'dsr',
    timeouts: Timeouts,
    { pairs = 40, server = '', passthrough = '' } = {},
  ): Promise<Tracked> {
    const tracked = new Tracked(mode, pairs);
    const { lab, vip, address } = tracked;
    const backend = `${UNTALKATIVE}\ndsr = "nat"`;
    const ports = Array.from({ length: pairs }, (_, i) => FIRST + i);
    const frontends = ports.map((port) => {
      return [`f${port}`, { listen: `${vip}:${port}`, servers: [`${address}:${port}`], backend, server }] as const;
    });
    const lines = Object.entries(timeouts).map(([key, seconds]) => `${key} = ${seconds}`);
    // Every server of the laboratory for DSR wants to be one of lb4's.
    const other = mode === 'dsr' ? { other: { listen: `${vip}:9000`, servers: [`${DSR_SERVERS[1]}:9000`], backend } } : {};
    const settings = {
      frontends: { ...Object.fromEntries(frontends), ...other },
      more: `[passthrough]\n${passthrough}\n[passthrough.timeouts]\n${lines.join('\n')}`,
    };
    try {
      for (const host of [tracked.client, tracked.server]) host.sysctl('net.ipv4.tcp_fastopen', '3');
      [tracked.#clients, tracked.#servers] = await Promise.all([Peers.start(tracked.client), Peers.start(tracked.server)]);
      if (lab instanceof DsrTopology) lab.rules(settings, 'install');
      tracked.balancer = await startBalancer(lab.balancer, settings, { args: mode === 'dsr' ? ['--dsr'] : [] });
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
    return tracked;
  }

  /** A client and a server, listening unless told otherwise, with a frontend that nobody else has. */
  async pair({ listening = true } = {}): Promise<Pair> {
    const port = this.#next++;
    if (port >= FIRST + this.#pairs) throw new RangeError(`more than ${this.#pairs} pairs`);
    const [client, server] = [this.#clients.add(), this.#servers.add()];
    if (listening) await server.listen(port);
    return new Pair(this, client, server, port, this.client.ports(1));
  }

  /** The same, connected, and both have said something. */
  async connected(isn?: number): Promise<Pair> {
    const pair = await this.pair();
    await pair.open(isn);
    return pair;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]();
  }
}

let tables = 0;

export interface Loss {
  /** How many segments have been lost. */
  count(): number;
  end(): void;
}

export class Pair {
  readonly client: Peer;
  readonly server: Peer;
  /** Of the frontend and of the server. */
  readonly port: number;
  /** The client's. */
  readonly local: number;
  /** Where the server saw the last connection come from. */
  seen = { host: '', port: 0 };
  readonly #tracked: Tracked;

  constructor(tracked: Tracked, client: Peer, server: Peer, port: number, local: number) {
    this.#tracked = tracked;
    this.client = client;
    this.server = server;
    this.port = port;
    this.local = local;
  }

  /** Connects, from the same port every time, and talks. */
  async open(isn?: number): Promise<void> {
    await this.connect(isn);
    await this.talk();
  }

  async connect(isn?: number): Promise<void> {
    const accepted = this.server.accept();
    await Promise.all([this.client.connect(this.#tracked.vip, this.port, this.local, isn), accepted]);
    this.seen = await accepted;
  }

  /** The client asks and the server answers; an error when something else arrives. */
  async talk(): Promise<void> {
    await this.client.send('question');
    const question = await this.server.receive(8);
    await this.server.send('answer');
    const answer = await this.client.receive(6);
    if (question !== 'question' || answer !== 'answer') throw new Error(`received "${question}" and "${answer}"`);
  }

  /** Connections that lb4 counts. */
  async current(): Promise<number> {
    return (await this.#tracked.balancer.stats()).frontends[`f${this.port}`]?.current_connections ?? -1;
  }

  /** Waits until lb4 counts no connection any more and, with full NAT, has the port back. */
  async forgotten(): Promise<void> {
    const { balancer, address, mode } = this.#tracked;
    await balancer.settled(`the connection by port ${this.port} to be forgotten`, ({ frontends, lb4 }) => {
      const ports = lb4.servers[`f${this.port}-out`]?.[`${address}:${this.port}`]?.ports;
      return frontends[`f${this.port}`]?.current_connections === 0 && (mode === 'dsr' || ports === 0);
    });
  }

  /** Loses what `match` (of nft(8)) says of this pair's segments at a place. */
  lose(place: Place, match = ''): Loss {
    const [host, hook, where] = placeIn(this.#tracked.lab, place);
    const port = place === 'toClient' || place === 'atClient' ? 'sport' : 'dport';
    const name = `${hook === 'forward' ? 'bridge' : 'ip'} lose${++tables}`;
    const rule = `${where} tcp ${port} ${this.port} ${match} counter drop`;
    host.sh('nft', `table ${name} { chain lose { type filter hook ${hook} priority 0; ${rule}; }; }`);
    return {
      count: () => Number(/packets (\d+)/.exec(host.sh('nft', `list table ${name}`))?.[1]),
      end: () => host.sh('nft', `delete table ${name}`),
    };
  }

  /** The states of this pair's connections at one of its ends, as ss(8) names them. */
  async states(end: 'client' | 'server'): Promise<string[]> {
    const filter = `${end === 'client' ? 'dport' : 'sport'} = :${this.port}`;
    const { stdout } = await this.#tracked[end].run('ss', '-Htan', 'state', 'connected', filter);
    const lines = stdout.trim().split('\n');
    return lines.filter(Boolean).map((line) => line.split(' ')[0]);
  }

  /** Waits until one end has no connection any more. */
  async over(end: 'client' | 'server'): Promise<void> {
    await waitUntil(async () => (await this.states(end)).length === 0, { what: `the ${end}'s end of port ${this.port}`, every: 50 });
  }

  /** Waits until both ends are in a state. */
  async bothAre(state: string): Promise<void> {
    const are = async () => (await this.states('client'))[0] === state && (await this.states('server'))[0] === state;
    await waitUntil(are, { what: `both ends in ${state}`, every: 50 });
  }
}

/** The first port of each switch is the balancer's in passthrough; in DSR the router has the first, the balancer the second. */
function placeIn(lab: Topology | DsrTopology, place: Place): readonly [host: Namespace, hook: string, where: string] {
  const dsr = lab instanceof DsrTopology;
  const find = (label: string) => lab.namespaces.find((namespace) => namespace.label === label) as Namespace;
  const front = find(dsr ? 'switch' : 'front-switch');
  const own = dsr ? 'port2' : 'port1';
  switch (place) {
    case 'toBalancer':
      return [front, 'forward', `oifname ${own}`];
    case 'toServer':
      return [dsr ? front : find('back-switch'), 'forward', `iifname ${own}`];
    case 'toClient':
      return [front, 'forward', dsr ? 'oifname port1' : `iifname ${own}`];
    case 'atServer':
      return [find('server1'), 'input', ''];
    case 'atClient':
      return [dsr ? find('client') : find('client1'), 'input', ''];
  }
}
