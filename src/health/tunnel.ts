import type { Check, CheckResult, Target, TunnelSettings } from './check.ts';
import { checkFromOurs, type Place } from './tries.ts';

/** Sends an echo request by the tunnel to a server and says how it ended (io/tunnel-echo.ts): this room sends no packets of its own. */
export type EchoThrough = (
  target: Place & { readonly server: string; readonly port: number },
  deadline: number,
  signal: AbortSignal,
) => Promise<Echoed>;

/** `silent`: an ICMP error may say why; `unheard`: answers found no room at this host; `unsent`: its kernel would not. */
type Echoed =
  | { readonly end: 'answered'; readonly ms: number }
  | { readonly end: 'silent'; readonly error: NodeJS.ErrnoException | undefined }
  | { readonly end: 'unheard' }
  | { readonly end: 'unsent'; readonly error: NodeJS.ErrnoException };

/** What Linux makes of "port unreachable" and "protocol unreachable" (icmp_err_convert in net/ipv4/icmp.c). */
const NOBODY: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOPROTOOPT']);

/**
 * An echo request goes to the server by the tunnel that clients' packets take, and must be answered (GLB's check of that name). An ICMP error by itself decides
 * nothing, since strangers can forge one: it is the reason where no answer comes.
 */
export function tunnelCheck(target: Target, { port, source }: TunnelSettings, echo: EchoThrough): Check {
  const from = { ...target, sourceAddress: source, otherSources: undefined };
  const server = target.address;
  const ask = async (place: Place, deadline: number, signal: AbortSignal) =>
    judge(await echo({ server, port, ...place }, deadline, signal), port, target);
  return { run: (signal) => checkFromOurs(from, (place, deadline) => ask(place, deadline, signal), signal) };
}

function judge(echoed: Echoed, port: number, { address, timeoutMs }: Target): CheckResult | NodeJS.ErrnoException {
  if (echoed.end === 'answered') return { outcome: 'pass', reason: `answered by its tunnel in ${echoed.ms.toFixed(1)} ms` };
  if (echoed.end === 'unheard') return { outcome: 'unknown', reason: 'this host had no room for all answers to checks by tunnels' };
  const { error } = echoed;
  if (error !== undefined && (echoed.end === 'unsent' || !NOBODY.has(error.code ?? ''))) return error;
  const where = port === 0 ? 'IP in IP' : `UDP port ${port}`;
  const what = error === undefined ? `no answer by its tunnel (${where}) in ${timeoutMs} ms` : `it unwraps nothing at ${where}`;
  return { outcome: 'fail', reason: `${what}: is the script of "lb4 rules --dsr --for ${address}" installed there? sh FILE status tells` };
}
