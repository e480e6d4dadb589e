/** What a lb4 that runs has noticed itself, by its statistics port. */
import { type Finding, fail, type Host } from './finding.ts';

const PATIENCE_MS = 1000;

/** The part of /stats that is read here; another program, or another version of lb4, may answer anything. */
interface Stats {
  readonly lb4?: {
    readonly mode?: string;
    readonly servers?: Readonly<Record<string, Readonly<Record<string, { readonly name?: string; readonly silent?: boolean }>>>>;
  };
}

/** Nothing to say where none runs, it has no statistics port, or it is well. */
export async function running(host: Host): Promise<Finding[]> {
  const stats = await statsOf(host);
  return Object.entries(stats?.lb4?.servers ?? {}).flatMap(([backend, servers]) =>
    Object.entries(servers)
      .filter(([, { silent }]) => silent === true)
      .map(([address, { name }]) => silence(`${backend} / ${name} (${address})`, host.mode, address)),
  );
}

function silence(server: string, mode: Host['mode'], address: string): Finding {
  const [ip = ''] = address.split(':');
  return fail(
    'silence',
    `${server} passes its health checks, yet answers nothing that lb4 forwards: ${causes(mode)}`,
    mode === 'dsr' ? `lb4 rules --dsr --for ${ip} (run its script there)` : `on ${ip}: ip route get VIP; iptables-save -c | grep DROP`,
  );
}

function causes(mode: Host['mode']): string {
  return mode === 'dsr'
    ? "the server's script is not installed, it has no route to the clients, or a firewall or strict rp_filter drops its answers"
    : 'its route to the VIP leads elsewhere, a firewall drops ports 33768-61000, br_netfilter a bridged reply, or strict rp_filter there the request';
}

async function statsOf({ config }: Host): Promise<Stats | undefined> {
  const listen = config.stats?.listen;
  if (listen === undefined) return undefined;
  const { text, ip, port } = listen;
  try {
    const url = `http://${ip === '0.0.0.0' ? `127.0.0.1:${port}` : text}/stats`;
    const response = await fetch(url, { signal: AbortSignal.timeout(PATIENCE_MS) });
    return (await response.json()) as Stats;
  } catch {
    return undefined;
  }
}
