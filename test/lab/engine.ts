/**
 * The engine alone, without configuration or health checks: `engine.js`, in a namespace. Each line on its standard input is an
 * Order; it prints `ready`, then `configured` to each, `signal SERVER REASON` and `failed REASON` when that comes, and to `report` the
 * servers' counters, by index.
 */
import { createInterface } from 'node:readline';
import { prepare } from '../../src/balance/index.ts';
import { Engine, type Settings } from '../../src/engine/engine.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { TCP } from '../../src/packet/fields.ts';

export interface Order {
  /** What to balance from now on: each frontend is a port of `vip`, each backend is named by its frontend's port. */
  readonly vip: string;
  readonly frontends: readonly { readonly port: number; readonly draining?: boolean; readonly servers: readonly Server[] }[];
}

interface Server {
  readonly index: number;
  readonly ip: string;
  readonly port: number;
  /** Not in the choice: it drains. */
  readonly drains?: boolean;
}

export type Report = Record<number, ReturnType<Engine['server']>>;

const TIMEOUTS = {
  syn: 30_000,
  established: 7_440_000,
  fin: 120_000,
  timeWait: 1_000,
  closed: 1_000,
  udp: 30_000,
  udpStream: 120_000,
  icmp: 30_000,
};

function settingsOf({ vip, frontends }: Order): Settings {
  const address = parseAddress(vip);
  return {
    timeouts: TIMEOUTS,
    services: {
      frontends: frontends.map(({ port, draining = false }, index) => ({
        index,
        address,
        port,
        protocol: TCP,
        backend: `${port}`,
        maxconn: 0,
        draining,
      })),
      backends: frontends.map(({ port, servers }) => ({
        name: `${port}`,
        mode: 'passthrough',
        servers: servers.map((server) => ({ index: server.index, address: parseAddress(server.ip), port: server.port, protocol: TCP })),
        choice: prepare(
          'maglev',
          servers
            .filter(({ drains }) => drains !== true)
            .map((server) => ({ name: `${server.ip}:${server.port}`, weight: 1, index: server.index, maxconn: 0 })),
        ),
      })),
    },
  };
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const read = async () => (await lines.next()) as IteratorResult<string, undefined>;

const first = await read();
let order = JSON.parse(first.value ?? '{}') as Order;
const engine = await Engine.start({
  io: 'ring',
  fastPath: 'off',
  connections: 10_000,
  workers: 1,
  cpus: undefined,
  ringSlots: 64,
  busyPollUs: 10,
  answersPerSecond: 1000,
  answersPerSource: 1000,
  floodFrom: 0,
  settings: settingsOf(order),
  keep: false,
  failed: (error) => say(`failed ${error.message}`),
  signal: (server, reason) => say(`signal ${server} ${reason}`),
});
say('ready');
for (let line = await read(); !line.done; line = await read()) {
  if (line.value === 'report') {
    const indexes = order.frontends.flatMap(({ servers }) => servers.map(({ index }) => index));
    say(JSON.stringify(Object.fromEntries(indexes.map((index) => [index, engine.server(index)])) satisfies Report));
  } else {
    order = JSON.parse(line.value) as Order;
    await engine.configure(settingsOf(order));
    say('configured');
  }
}
await engine.stop();
