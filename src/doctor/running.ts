/** What a lb4 that runs has noticed itself, by its statistics port. */
import { MODES, wrapping } from '../config/modes.ts';
import { CLIENT_PORTS, rangeText } from '../layout/ports.ts';
import { type Finding, fail, type Host, warn } from './finding.ts';

/** A busy host takes its time, and who does not listen refuses at once. */
const PATIENCE_MS = 5000;

/** The part of /stats that is read here; another program, or another version of lb4, may answer anything. */
interface Stats {
  readonly lb4?: {
    readonly host?: readonly Missing[];
    readonly silent_frontends?: readonly string[];
    readonly verdicts?: { readonly tooBig?: number };
    readonly servers?: Readonly<Record<string, Readonly<Record<string, { readonly name?: string; readonly silent?: boolean }>>>>;
  };
}

interface Missing {
  readonly what?: string;
  readonly missing?: readonly string[];
  readonly reason?: string;
}

/** Nothing to say where none runs, or it is well. */
export async function running(host: Pick<Host, 'config' | 'mode'>): Promise<Finding[]> {
  const { config, mode } = host;
  if (config.stats === undefined) {
    const needs = 'no [stats]: what a lb4 that runs has noticed itself, servers that answer nobody for one, cannot be asked';
    return [warn('running', needs, `add to ${config.file}: [stats] address = "127.0.0.1", port = "7000"`)];
  }
  const stats = (await statsOf(config.stats.listen))?.lb4;
  const silent = Object.entries(stats?.servers ?? {}).flatMap(([backend, servers]) =>
    Object.entries(servers)
      .filter(([, server]) => server.silent === true)
      .map(([address, { name }]) => silence(`${backend} / ${name} (${address})`, mode, address)),
  );
  const silentFrontends = (stats?.silent_frontends ?? []).map((name) => silentFrontend(name, mode));
  return [...missing(stats?.host ?? []), ...silent, ...silentFrontends, ...sentBack(host, stats?.verdicts?.tooBig ?? 0)];
}

/** A server that asks its clients for what fits gets no others, but for those of datagrams. */
function sentBack({ config, mode }: Pick<Host, 'config' | 'mode'>, packets: number): Finding[] {
  const wrapped = config.backends.find((backend) => wrapping(mode, backend) !== undefined);
  if (packets === 0 || wrapped === undefined) return [];
  const message =
    `lb4 has sent back ${packets} packets that do not fit a tunnel (tooBig): a server of backend ${wrapped.name}, or of another one with a tunnel, lacks the MSS clamp, ` +
    'and where ICMP is filtered its clients hang as they upload';
  return [warn('MSS', message, 'on each server: sh FILE status (missing mss), sh FILE install')];
}

/** What is missing just now of what it has put on this host, and it could not put back. */
function missing(states: readonly Missing[]): Finding[] {
  return states
    .filter((state) => (state.missing?.length ?? 0) > 0)
    .map(({ what = '', missing: pieces = [], reason }) => {
      const [first = '', ...more] = pieces;
      const all = more.length === 0 ? first : `${first} and ${more.length} more`;
      return fail('running', `lb4 runs and lacks ${what}: ${all}${reason === undefined ? '' : `: ${reason}`}`);
    });
}

function silence(server: string, mode: Host['mode'], address: string): Finding {
  const [ip = ''] = address.split(':');
  return fail(
    'silence',
    `${server} passes its health checks, yet answers nothing that lb4 forwards: ${causes(mode)}`,
    MODES[mode].directions === 1
      ? `lb4 rules --dsr --for ${ip} --config=FILE (run its script there)`
      : `on ${ip}: ip route get VIP; iptables-save -c | grep DROP`,
  );
}

function silentFrontend(name: string, mode: Host['mode']): Finding {
  return fail(
    'silence',
    `frontend ${name}: its servers answer others, yet none of its connections: ${causes(mode)}`,
    MODES[mode].directions === 1
      ? 'lb4 rules --dsr --for SERVER --config=FILE (run its script there)'
      : 'on the servers: ip route get VIP; iptables-save -c | grep DROP',
  );
}

function causes(mode: Host['mode']): string {
  return MODES[mode].directions === 1
    ? "the server's script is not installed, it has no route to the clients, or a firewall or strict rp_filter drops its answers"
    : `its route to the VIP leads elsewhere, a firewall drops ports ${rangeText(CLIENT_PORTS)}, br_netfilter a bridged reply, or strict rp_filter there the request`;
}

async function statsOf({
  text,
  ip,
  port,
}: {
  readonly text: string;
  readonly ip: string;
  readonly port: number;
}): Promise<Stats | undefined> {
  try {
    const url = `http://${ip === '0.0.0.0' ? `127.0.0.1:${port}` : text}/stats`;
    const response = await fetch(url, { signal: AbortSignal.timeout(PATIENCE_MS) });
    return (await response.json()) as Stats;
  } catch {
    return undefined;
  }
}
