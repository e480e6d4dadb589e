/**
 * What a server in DSR lacks: on the server itself what its script's `status` finds, elsewhere what answers this host's packets that go by its tunnel. Each of
 * these loses packets, and nobody is told.
 */
import type { Backend, Config, Frontend } from '../config/model.ts';
import type { PacketMode } from '../config/modes.ts';
import { messageOf } from '../errors.ts';
import { echoThrough } from '../io/tunnel-echo.ts';
import type { Probed, TunnelTarget } from '../io/tunnel-probe.ts';
import { type SynAnswer, synThrough } from '../io/tunnel-syn.ts';
import { serverRulesFor } from '../rules/from-config.ts';
import { renderServerScript } from '../rules/render.ts';
import { runRules } from '../rules/run.ts';
import type { TunnelInput } from '../rules/types.ts';
import { type Finding, fail, type Host, ok, warn } from './finding.ts';
import { tunnels } from './tunnels.ts';

/** Milliseconds in which a server answers, or does not. */
const PATIENCE = 2000;
/** Bytes of the headers of IPv4 and TCP. */
const HEADERS = 40;

/** What loses packets where a part of the script is not there, by how `status` begins to name it. */
const MEANINGS: readonly (readonly [RegExp, string])[] = [
  [/rp_filter/, 'the kernel drops what comes by the tunnel'],
  [/^(bpf|fou|link) /, 'packets are not taken out of the tunnel: clients get nothing'],
  [/^lo /, "what comes for it is nobody's: clients get nothing"],
  [/^mss /, 'clients send more than fits the tunnel: uploads hang where ICMP is filtered'],
  [/^arp_/, "it answers ARP for the frontend's address, in the balancer's place"],
];

type Asked = Pick<Host, 'config' | 'paths'> & { readonly mode: PacketMode };

/** @param server an address of one of the file's servers */
export async function serverLacks(host: Asked, server: string): Promise<Finding[]> {
  const path = host.paths.find(({ address }) => address === server);
  return path?.local === true ? await byStatus(host, server) : await fromOutside(host, server);
}

async function byStatus({ config, mode }: Asked, server: string): Promise<Finding[]> {
  const mend = `lb4 rules --dsr --for ${server} --config=${config.file} --apply`;
  try {
    const { output } = await runRules(renderServerScript(serverRulesFor(config, mode, server)), 'status');
    return output.split('\n').flatMap((line) => statusFinding(line, mend));
  } catch (error) {
    return [fail('script', messageOf(error), mend)];
  }
}

/** What a line of `status` says; nothing of counters. */
export function statusFinding(line: string, mend: string): Finding[] {
  const shadow = /^all (shadowed by strict rp_filter of (\S+))$/.exec(line);
  if (shadow !== null) return [fail('script', `${shadow[1]}: ${meaningOf(line)}`, `sysctl -w net.ipv4.conf.${shadow[2]}.rp_filter=2`)];
  const [, state, what = ''] = /^(present|missing|stale) (.*)$/.exec(line) ?? [];
  if (state === undefined) return [];
  if (state === 'present') return [ok('script', `present ${what}`)];
  if (state === 'stale') return [warn('script', `stale ${what}: of another configuration`, mend)];
  return [fail('script', `missing ${what}: ${meaningOf(what)}`, mend)];
}

function meaningOf(what: string): string {
  return MEANINGS.find(([pattern]) => pattern.test(what))?.[1] ?? 'clients get no answers, or such as they do not expect';
}

async function fromOutside(host: Asked, server: string): Promise<Finding[]> {
  const { config, mode } = host;
  const here = `lb4 rules --dsr --for ${server} --config=${config.file}`;
  const rest = warn('script', 'strict rp_filter and ARP show on the server alone', `${here} | ssh root@${server} sh -s status`);
  const all = serverRulesFor(config, mode, server).tunnels ?? [];
  // One for each address: what it lacks, it lacks for all of its ports.
  const wrapped = [...new Map(all.map((one) => [`${one.vip} ${one.port}`, one])).values()];
  if (wrapped.length === 0) return [warn('script', `what ${server} lacks shows on it alone: no packets go to it by a tunnel`, rest.mend)];
  const mend = `${here} | ssh root@${server} sh -s install`;
  const ports = [...new Set(wrapped.map(({ port }) => port))];
  const unwraps = (await Promise.all(ports.map((port) => unwrapping(host, { server, port }, mend)))).flat();
  const beyond = unwraps.every(({ level }) => level === 'ok') ? wrapped.map((one) => ofAddress(host, server, one, mend)) : [];
  const way = tunnels({ ...host, paths: host.paths.filter(({ address }) => address === server) });
  return [...unwraps, ...(await Promise.all(beyond)).flat(), ...(await way), rest];
}

function deadline(): number {
  return performance.now() + PATIENCE;
}

/** The same way as clients' packets go. */
function from({ config }: Asked, { server, port }: TunnelTarget): TunnelTarget {
  const backend = config.backends.find(({ tunnel, servers }) => tunnel?.port === port && servers.some(({ addr }) => addr.ip === server));
  return { server, port, localAddress: backend?.tunnel?.source };
}

async function unwrapping(host: Asked, target: TunnelTarget, mend: string): Promise<Finding[]> {
  const { server, port } = target;
  const tunnel = port === 0 ? 'IP in IP' : `UDP port ${port}`;
  const echoed = await echoThrough(from(host, target), deadline());
  if (echoed.end === 'answered') return [ok('tunnel', `server ${server} takes packets out of its tunnel (${tunnel}), and answers`)];
  if (echoed.end === 'unheard') return [untold('tunnel', server)];
  if (echoed.end === 'unsent') return [fail('tunnel', `packets to ${server} (${tunnel}) cannot be sent: ${messageOf(echoed.error)}`)];
  const says = echoed.error === undefined ? 'and says nothing' : `and says ${messageOf(echoed.error)}`;
  const message = `server ${server} answers no ping that goes to it by its tunnel (${tunnel}), ${says}: nothing unwraps packets there, or they are lost on the way`;
  return [fail('tunnel', message, mend)];
}

function untold(check: string, server: string): Finding {
  return warn(check, `whether server ${server} answers cannot be told: this host had no room for all answers that came`, 'ask again');
}

/** Of an address that the server is to have, and the segments that it lets clients send. */
async function ofAddress(host: Asked, server: string, { vip, port, overhead }: TunnelInput, mend: string): Promise<Finding[]> {
  const target = { ...from(host, { server, port }), destination: vip };
  const echoed = await echoThrough(target, deadline());
  if (echoed.end === 'unheard') return [untold('VIP', server)];
  if (echoed.end !== 'answered')
    return [fail('VIP', `server ${server} answers no pings of ${vip}: what it unwraps for that address is nobody's`, mend)];
  const frontend = frontendOf(host.config, { server, vip, port });
  const mtu = host.paths.find(({ address }) => address === server)?.mtu ?? 0;
  const found = ok('VIP', `server ${server} has ${vip}`);
  if (frontend === undefined) return [found];
  return [
    found,
    segments(
      await synThrough(target, frontend.listen.port, deadline()),
      `${vip}:${frontend.listen.port} at server ${server}`,
      mtu - overhead,
      mend,
    ),
  ];
}

/** One of TCP whose packets go by that tunnel. @param port UDP, where the server unwraps; 0: IP in IP */
export function frontendOf(
  { frontends }: Pick<Config, 'frontends'>,
  way: { server: string; vip: string; port: number },
): Frontend | undefined {
  const goesThere = ({ protocol, tunnel, servers }: Backend) =>
    protocol.name === 'tcp' && tunnel?.port === way.port && servers.some(({ addr }) => addr.ip === way.server);
  return frontends.find(({ listen, backend }) => listen.ip === way.vip && goesThere(backend));
}

function segments(probed: Probed<SynAnswer>, who: string, room: number, mend: string): Finding {
  if (probed.end !== 'answered') return warn('MSS', `${who} answers no SYN: whether its clients send segments that fit cannot be told`);
  const { mss } = probed.says;
  if (mss === undefined) return fail('MSS', `nobody listens at ${who}`);
  if (mss + HEADERS <= room) return ok('MSS', `${who} has clients send ${mss} bytes a segment at most, which fit the tunnel`);
  const message = `${who} lets clients send ${mss} bytes a segment, and the tunnel has room for ${room - HEADERS}: large packets to it, uploads, come back as too big, and hang where ICMP is filtered`;
  return fail('MSS', message, mend);
}
