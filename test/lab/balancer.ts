/** lb4 itself, as a person would run it, in a namespace of the lab. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ask } from './ask.ts';
import type { Namespace } from './lab.ts';
import { ROOT } from './lab.ts';
import type { Exit, Running } from './processes.ts';
import { PATIENCE, waitUntil } from './wait.ts';

/** The checkout's own, or an installed one to be tested. */
export const LB4 = process.env['LB4_BIN'] ?? join(ROOT, 'bin/lb4');
export const STATS_PORT = 7000;

export interface Frontend {
  /** ADDRESS:PORT. */
  readonly listen: string;
  /** ADDRESS:PORT of each server, in order. */
  readonly servers: readonly string[];
  /** Lines for `[backends.NAME]`, instead of the quick health checks. */
  readonly backend?: string;
  /** Lines for `[frontends.NAME]`. */
  readonly frontend?: string;
  /** Lines for each server. */
  readonly server?: string;
}

export interface Settings {
  readonly frontends: Record<string, Frontend>;
  /** Whole sections, appended. */
  readonly more?: string;
  /** Frames in the receive ring of a worker ({@link RING} without it, and then a small table, too); lb4's own default is 1024. */
  readonly ring?: number;
}

/** Enough for what waits for an answer. The kernel clears the ring at every start: at 1024 that is 128 MB, and a tenth of the tests' time. */
const RING = 256;
/** And of the table, for connections that such a ring is enough for: 18 MB. With lb4's default, 262,144, it is 70 MB. */
const CONNECTIONS = 65_536;
/** lb4's default, for tests that send as much as they can. */
export const LARGE_RING = 1024;

/** Sections with the sizes of ring and table in them, and of one worker on every machine, where they do not say another one. */
export function withSizes(more: string, ring = RING): string {
  const section = '[passthrough]\n';
  const rest = more.includes(section) ? more : `${more}\n${section}`;
  const isSaid = (key: string) => new RegExp(`\\[passthrough\\]\\n(?:[^[\\n].*\\n)*${key} = `).test(rest);
  const table = ring === RING ? { connection_tracker_capacity: CONNECTIONS } : {};
  const lines = Object.entries({ workers: 1, ...table }).map(([key, value]) => (isSaid(key) ? '' : `${key} = ${value}\n`));
  return rest.replace(section, `${section}ring_slots = ${ring}\n${lines.join('')}`);
}

/** Quick checks, so that tests are quick: what is refused is down at once, what stalls on a busy machine is not. */
export const QUICK = 'health_check_interval = 0.25\nhealth_check_timeout = 3\nhealth_check_rise = 1\nhealth_check_fall = 1';

/** Checks that no stall of a busy machine makes fail, for tests that are not about health. */
export const SLOW = 'health_check_interval = 60\nhealth_check_timeout = 30\nhealth_check_fall = 10';

/** Checks that come near no port, for servers that one cannot talk to, or that a check would be a client to. */
export const UNTALKATIVE =
  'health_check = "exec"\nhealth_check_command = ["/bin/true"]\nhealth_check_timeout = 60\nhealth_check_interval = 3600';

/** A configuration file's text: frontend NAME goes to backend NAME-out with servers s1, s2 …. */
export function configuration({ frontends, more = '', ring = RING }: Settings): string {
  const sections = Object.entries(frontends).map(
    ([name, { listen, servers, backend = QUICK, frontend = '', server = '' }]) =>
      `[frontends.${name}]\nlisten_addr = "${listen}"\nbackend = "${name}-out"\n${frontend}\n` +
      `[backends.${name}-out]\n${backend}\n` +
      servers.map((addr, index) => `[backends.${name}-out.servers.s${index + 1}]\naddr = "${addr}"\n${server}\n`).join(''),
  );
  return `${sections.join('')}[stats]\naddress = "0.0.0.0"\nport = "${STATS_PORT}"\n${withSizes(more, ring)}\n`;
}

interface Totals {
  readonly total_connections: number;
  readonly current_connections: number;
  readonly bytes_tx: number;
  readonly bytes_rx: number;
}

/** GET /stats. */
export interface Stats {
  readonly total_connections: number;
  readonly current_connections: number;
  readonly total_bytes_tx: number;
  readonly total_bytes_rx: number;
  readonly backends: Record<string, Totals & { readonly servers: Record<string, boolean> }>;
  readonly frontends: Record<string, Totals>;
  readonly lb4: {
    readonly verdicts: Record<string, number>;
    readonly frames: { readonly received: number; readonly dropped: number };
    readonly flows: number;
    readonly fast_path?: { readonly forwarded: number; readonly dropped: number };
    /** Of each packet worker. */
    readonly workers: readonly { readonly frames: { readonly received: number } }[];
    readonly half_open: number;
    /** By frontend and rule, of those that have rules. */
    readonly refusals?: Record<string, Record<string, { readonly refused: number }>>;
    readonly servers: Record<
      string,
      Record<
        string,
        { readonly current_connections: number; readonly load: number; readonly ports?: number; readonly check_failures?: number }
      >
    >;
  };
}

export class Balancer {
  readonly running: Running;
  readonly #namespace: Namespace;
  readonly #stats: string;

  constructor(namespace: Namespace, running: Running, stats: string) {
    this.#namespace = namespace;
    this.running = running;
    this.#stats = stats;
  }

  async stats(): Promise<Stats> {
    try {
      return JSON.parse(await ask(this.#namespace, this.#stats)) as Stats;
    } catch (error) {
      throw new Error(`no stats (${String(error)}); lb4 said\n${this.running.lines.slice(-20).join('\n')}`, { cause: error });
    }
  }

  /** Waits until the stats satisfy `holds` and returns them. */
  async settled(what: string, holds: (stats: Stats) => boolean | Promise<boolean>, timeout = PATIENCE): Promise<Stats> {
    let last: Stats | undefined;
    try {
      return await waitUntil(
        async () => {
          last = await this.stats();
          return (await holds(last)) ? last : undefined;
        },
        { what, timeout, every: 50 },
      );
    } catch (error) {
      const said = this.running.lines.slice(-10).join('\n');
      throw new Error(`${String(error)}; the stats were ${JSON.stringify(last)}; lb4 said\n${said}`, { cause: error });
    }
  }

  /** Waits until lb4 has the servers (ADDRESS:PORT → up) as given. */
  health(servers: Record<string, boolean>, timeout = PATIENCE): Promise<Stats> {
    return this.settled(
      `servers to be ${JSON.stringify(servers)}`,
      (stats) =>
        Object.entries(servers).every(([server, up]) =>
          Object.values(stats.backends).every((backend) => (backend.servers[server] ?? up) === up),
        ),
      timeout,
    );
  }

  /** How often a verdict has been given. */
  async verdict(name: string): Promise<number> {
    return (await this.stats()).lb4.verdicts[name] ?? 0;
  }

  /** GET /metrics. */
  metrics(): Promise<string> {
    return ask(this.#namespace, `http://127.0.0.1:${STATS_PORT}/metrics`);
  }

  /** A counter or gauge of /metrics, as {@link sumOf} has it. */
  async metric(name: string, labels?: string): Promise<number> {
    return sumOf(await this.metrics(), name, labels);
  }

  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> {
    return this.running.stop(signal);
  }
}

/** A counter or gauge among `metrics`: the sum over all label sets that contain `labels` (`server="a"`). */
export function sumOf(metrics: string, name: string, labels = ''): number {
  const lines = metrics.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return lines.filter((line) => line.includes(labels)).reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

let files = 0;

/** Writes a configuration into the lab's directory and returns its path. */
export function writeConfiguration(namespace: Namespace, toml: string): string {
  const file = join(namespace.lab.directory, `lb4-${++files}.toml`);
  writeFileSync(file, toml);
  return file;
}

export type Mode = 'proxy' | 'passthrough' | 'dsr';

/** Starts lb4 without waiting for anything: in passthrough, unless `args` say `--dsr` or (for proxy mode, which has no flag) `proxy`. */
export function launch(namespace: Namespace, toml: string, ...args: string[]): Running {
  const mode = args.includes('--dsr') || args.includes('proxy') ? [] : ['--passthrough'];
  const rest = args.filter((arg) => arg !== 'proxy');
  return namespace.start([LB4, ...mode, `--config=${writeConfiguration(namespace, toml)}`, ...rest]);
}

/** Starts lb4, waits until it forwards and, unless told otherwise, until every server is up. */
export async function startBalancer(
  namespace: Namespace,
  settings: Settings,
  { args = [], healthy = true }: { args?: readonly string[]; healthy?: boolean } = {},
): Promise<Balancer> {
  const running = launch(namespace, configuration(settings), ...args);
  await running.line(/"msg":"ready"/);
  const balancer = new Balancer(namespace, running, `http://127.0.0.1:${STATS_PORT}/stats`);
  if (healthy) {
    const servers = Object.values(settings.frontends).flatMap((frontend) => frontend.servers);
    await balancer.settled('all servers up', (stats) => {
      const states = Object.assign({}, ...Object.values(stats.backends).map((backend) => backend.servers)) as Record<string, boolean>;
      return servers.every((server) => states[server] === true);
    });
  }
  return balancer;
}
