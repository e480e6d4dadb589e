/** A balancer whose file changes while it runs, in any mode, over the servers that suit the mode. */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Balancer, LB4, type Mode, QUICK, STATS_PORT, withSizes } from './balancer.ts';
import { SERVERS as DSR_SERVERS, VIP as DSR_VIP, DsrTopology } from './dsr-topology.ts';
import type { Running } from './processes.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from './topology.ts';

export const MODES: readonly Mode[] = ['proxy', 'passthrough', 'dsr'];

/** For a backend whose servers leave: their connections have longer than a test, or soon none of it. */
export const PATIENT = 'drain_timeout = 600';
export const HASTY = 'drain_timeout = 1';

export interface Wanted {
  /** Indexes into `addresses`; all when left out. */
  readonly servers?: readonly number[];
  /** Weights beside them, 1 where nothing stands. */
  readonly weights?: readonly number[];
  /** More of each server's table, beside its address and weight ("maxconn = 2"). */
  readonly settings?: readonly string[];
  /** Lines for each frontend. */
  readonly frontend?: string;
  /** Lines for each backend, beside those about health checks. */
  readonly backend?: string;
  /** Lines about health checks, instead of the quick ones. */
  readonly checks?: string;
  /** Which frontends there are: `http` (80), `echo` (7), `extra` (81 → the servers' 80; not for DSR, where ports are equal). `http` and `echo` when left out. */
  readonly frontends?: readonly ('http' | 'echo' | 'extra')[];
  /** Whole sections. */
  readonly more?: string;
  /** Frames in the receive ring of a worker, as for the balancer of other tests. */
  readonly ring?: number;
}

export class Live {
  readonly mode: Mode;
  readonly lab: Topology | DsrTopology;
  readonly vip: string;
  readonly addresses: readonly string[];
  readonly file: string;
  balancer!: Balancer;

  private constructor(mode: Mode) {
    this.mode = mode;
    const dsr = mode === 'dsr';
    this.lab = dsr ? new DsrTopology() : new Topology({ servers: 2 });
    this.vip = dsr ? DSR_VIP : VIP;
    this.addresses = dsr ? DSR_SERVERS : [serverAddress(0), serverAddress(1)];
    this.file = join(this.lab.directory, 'live.toml');
  }

  static async start(mode: Mode, wanted: Wanted = {}): Promise<Live> {
    const live = new Live(mode);
    const { lab } = live;
    try {
      if (lab instanceof DsrTopology) {
        await lab.startServers();
        lab.rules(lab.settings('nat'), 'install');
      } else if (lab instanceof Topology) await lab.startBackends();
      writeFileSync(live.file, live.text(wanted));
      await live.launch();
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
    return live;
  }

  /** Starts lb4 on the file as it stands, without waiting for anything. */
  start(...more: readonly string[]): Running {
    const flags = this.mode === 'proxy' ? [] : [`--${this.mode}`];
    return this.lab.balancer.start([LB4, ...flags, `--config=${this.file}`, ...more]);
  }

  /** Starts lb4 on the file as it stands. */
  async launch(...more: readonly string[]): Promise<void> {
    const running = this.start(...more);
    await running.line(/"msg":"ready"/);
    this.balancer = new Balancer(this.lab.balancer, running, `http://127.0.0.1:${STATS_PORT}/stats`);
  }

  /** The file's text. Servers are named for their addresses, so that a name stays with its server. */
  text(wanted: Wanted): string {
    const { servers = this.addresses.map((_, i) => i), weights = [], settings = [], frontends = ['http', 'echo'] } = wanted;
    const { frontend = '', backend = '', checks = QUICK, more = '', ring } = wanted;
    const port = { http: HTTP, echo: ECHO, extra: 81 } as const;
    const section = (name: 'http' | 'echo' | 'extra') => {
      const to = name === 'extra' ? HTTP : port[name];
      const lines = servers.map((i) => {
        const table = [`addr = "${this.addresses[i]}:${to}"`, `weight = ${weights[i] ?? 1}`, settings[i] ?? ''].filter(Boolean);
        return `server${i + 1} = { ${table.join(', ')} }\n`;
      });
      return (
        `[frontends.${name}]\nlisten_addr = "${this.vip}:${port[name]}"\nbackend = "${name}-out"\n${frontend}\n` +
        `[backends.${name}-out]\n${checks}\n${backend}\n[backends.${name}-out.servers]\n${lines.join('')}`
      );
    };
    return `${frontends.map(section).join('')}[stats]\naddress = "0.0.0.0"\nport = "${STATS_PORT}"\n${withSizes(more, ring)}\n`;
  }

  /** Puts another text in the file's place at once, as editors and configuration tools do. */
  replace(text: string): void {
    const other = `${this.file}.new`;
    writeFileSync(other, text);
    renameSync(other, this.file);
  }

  /** Takes over what is wanted now, and waits until lb4 has. */
  async reload(wanted: Wanted): Promise<void> {
    const done = this.balancer.running.nextLine(/"msg":"configuration reloaded"/);
    this.replace(this.text(wanted));
    await done;
  }

  /** As the balancer's own, of whichever balancer runs now. */
  metric(name: string, labels?: string): Promise<number> {
    return this.balancer.metric(name, labels);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]();
  }
}
