/**
 * The control API, JSON over HTTP, for `lb4 status` and the other commands, and for scripts: docs/control.md. An answer is a document, or
 * `{ "error": { "why": …, "message": one line } }`.
 */
import type { IncomingMessage } from 'node:http';
import type { HttpBindings } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import { didYouMean } from '../suggest.ts';
import { MOST_PACKETS, pcapngOf, SNAPLEN } from './capture.ts';
import { listOf, statusOf } from './listing.ts';
import { type CaptureWanted, type FlowFilter, OrderError, type Orders, type ServerOrder, type ServerSet } from './orders.ts';
import type { Judgement, TokenGate } from './token.ts';

/** Of a request's body: what is ordered has a hundred or so. */
const MOST_BYTES = 4096;
/** Flows in an answer, unless it is asked for fewer, or for more. */
export const FLOWS = { few: 1000, most: 100_000 } as const;
const MOST_WEIGHT = 65_535;
/** In ms: so long an answer that has ended may still be read. */
const LINGER_MS = 1000;
const STATES = ['ready', 'drain', 'down'] as const;
const FILTERS = ['server', 'client', 'frontend'] as const;

const STATUS = { unknown: 404, refused: 409, wrong: 400 } as const;

export interface ApiOptions {
  readonly orders: Orders;
  /** Only for who says it: `Authorization: Bearer TOKEN`. Undefined: whoever gets there may. */
  readonly token?: { readonly text: string; readonly gate: TokenGate } | undefined;
  readonly failed: (error: Error) => void;
}

export function apiOf({ orders, token, failed }: ApiOptions): Hono {
  const app = new Hono();
  app.use(async (context, next) => {
    const judgement = token?.gate.judge(token.text, context.req.header('authorization'), addressIn(context)) ?? 'right';
    if (judgement !== 'right') return sayUnauthorized(context, judgement);
    await next();
    context.header('cache-control', 'no-store');
  });
  app.get('/v1/status', (context) => context.json(statusOf(orders)));
  app.get('/v1/servers', (context) => context.json(listOf(orders)));
  app.get('/v1/server', (context) => context.json({ servers: orders.explain(serverIn(context)) }));
  app.post('/v1/server', async (context) => context.json(await setServer(context, orders)));
  app.get('/v1/trace', async (context) => {
    const { client, frontend } = assertQuery(context, ['client', 'frontend']);
    if (client === undefined || frontend === undefined) return wrong('needed: ?client=IP:PORT&frontend=NAME');
    return context.json({ traces: await orders.trace(client, frontend) });
  });
  app.get('/v1/flows', async (context) => context.json(await orders.flows(filterIn(context, ['limit']), limitIn(context))));
  app.get('/v1/capture', async (context) => {
    // One that nobody would read.
    if (context.req.method !== 'GET') return wrong('allowed: GET');
    const wanted = captureIn(context);
    const captured = await orders.capture(wanted);
    // Who does not read the end of it does not keep lb4 from its own.
    captured.stopping.addEventListener('abort', () => setTimeout(() => outgoingOf(context)?.destroy(), LINGER_MS).unref());
    return context.body(pcapngOf(captured, wanted, `lb4 ${orders.about().version}`), 200, { 'content-type': 'application/x-pcapng' });
  });
  app.delete('/v1/flows', async (context) => context.json(await orders.kill(someIn(filterIn(context, [])))));
  app.post('/v1/reload', async (context) => context.json(await orders.reload()));
  app.get('/v1/config', (context) => context.json({ toml: orders.config() }));
  app.notFound((context) => {
    const known = [...new Set(app.routes.filter(({ method }) => method !== 'ALL').map(({ method, path }) => `${method} ${path}`))];
    return say(context, 404, 'wrong', `there is no ${context.req.method} ${context.req.path}; there are: ${known.join(', ')}`);
  });
  app.onError((error, context) => answerFailure(context, error, failed));
  return app;
}

/** `?server=BACKEND/SERVER`, and what is ordered in the body. Rejects with an OrderError. */
export async function setServer(context: Context, orders: Pick<Orders, 'set'>): Promise<ServerSet> {
  return orders.set(serverIn(context), orderIn(await jsonIn(context)));
}

/** The client's. */
export function addressIn({ env }: Context): string {
  return (env as { readonly incoming?: IncomingMessage } | undefined)?.incoming?.socket.remoteAddress ?? '';
}

export function answerFailure(context: Context, error: Error, failed: (error: Error) => void) {
  if (error instanceof OrderError) return say(context, STATUS[error.why], error.why, error.message);
  failed(error);
  return say(context, 500, 'failed', `internal error: ${error.message}`);
}

export function sayUnauthorized(context: Context, judgement: Exclude<Judgement, 'right'>) {
  if (judgement === 'later') return say(context, 429, 'later', 'too many wrong tokens from this address; again in a minute');
  return say(context, 401, 'unauthorized', 'needed: Authorization: Bearer TOKEN, with the token of [control]');
}

export function say(context: Context, status: 400 | 401 | 403 | 404 | 409 | 415 | 429 | 500, why: string, message: string) {
  return context.json({ error: { why, message: message.replaceAll('\n', ' ') } }, status);
}

function serverIn(context: Context): string {
  return assertQuery(context, ['server'])['server'] ?? wrong('needed: ?server=BACKEND/SERVER');
}

function filterIn(context: Context, more: readonly string[]): FlowFilter {
  const { server, client, frontend } = assertQuery(context, [...FILTERS, ...more]);
  return { server, client, frontend };
}

/** Without any all would be meant, which nobody should get for a slip. */
function someIn(filter: FlowFilter): FlowFilter {
  return Object.values(filter).some((value) => value !== undefined) ? filter : wrong(`needed: one of ${FILTERS.join(', ')}`);
}

function limitIn(context: Context): number {
  return numberIn(context, 'limit', 1, FLOWS.most) ?? FLOWS.few;
}

function captureIn(context: Context): CaptureWanted {
  const filter = filterIn(context, ['count', 'snaplen']);
  const snaplen = numberIn(context, 'snaplen', SNAPLEN.least, SNAPLEN.most) ?? SNAPLEN.few;
  return { filter, snaplen, count: numberIn(context, 'count', 1, MOST_PACKETS) };
}

function numberIn(context: Context, name: string, least: number, most: number): number | undefined {
  const text = context.req.query(name);
  if (text === undefined) return undefined;
  const number = Number(text);
  return /^\d+$/.test(text) && number >= least && number <= most ? number : wrong(`${name}: "${text}"; allowed: ${least}–${most}`);
}

/** Undefined where no server has sent it here. */
function outgoingOf(context: Context): HttpBindings['outgoing'] | undefined {
  return (context.env as Partial<HttpBindings> | undefined)?.outgoing;
}

function assertQuery(context: Context, known: readonly string[]): Record<string, string> {
  const query = context.req.query();
  const strange = Object.keys(query).find((name) => !known.includes(name));
  return strange === undefined
    ? query
    : wrong(`there is no "${strange}" here${didYouMean(strange, known) || `; there are: ${known.join(', ')}`}`);
}

/** hono's own bound wants to replace the request by another one, which this server's is not. */
async function textIn(context: Context): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of context.req.raw.body ?? []) {
    length += part.length;
    if (length > MOST_BYTES) throw new OrderError('wrong', `the body has more than ${MOST_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

async function jsonIn(context: Context): Promise<unknown> {
  const text = await textIn(context);
  try {
    return JSON.parse(text);
  } catch {
    return wrong('the body is no JSON; needed: { "state": "drain" }, or { "weight": 5 }');
  }
}

function orderIn(body: unknown): ServerOrder {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return wrong('needed: { "state": "drain" }, or { "weight": 5 }');
  const { state, weight, ...rest } = body as { state?: unknown; weight?: unknown };
  const [strange] = Object.keys(rest);
  if (strange !== undefined) return wrong(`there is no "${strange}"${didYouMean(strange, ['state', 'weight'])}`);
  if (state === undefined && weight === undefined) return wrong('needed: state, or weight');
  return { state: state === undefined ? undefined : stateIn(state), weight: weight === undefined ? undefined : weightIn(weight) };
}

function stateIn(value: unknown): ServerOrder['state'] {
  return STATES.find((state) => state === value) ?? wrong(`state: ${JSON.stringify(value)}; allowed: ${STATES.join(', ')}`);
}

function weightIn(value: unknown): number {
  const isWeight = Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MOST_WEIGHT;
  return isWeight ? (value as number) : wrong(`weight: ${JSON.stringify(value)}; allowed: a whole number, 0–${MOST_WEIGHT}`);
}

function wrong(message: string): never {
  throw new OrderError('wrong', message);
}
