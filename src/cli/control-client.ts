/** A running lb4, as the commands ask it: docs/control.md has what it answers. */
import type { IncomingMessage } from 'node:http';
import { Command, Option } from 'commander';
import {
  AbsentError,
  FailureError,
  type Lb4Error,
  PrivilegeError,
  RefusedError,
  TimeoutError,
  UnknownNameError,
  UsageError,
} from '../errors.ts';
import { defaultControlPath } from '../io/control-point.ts';

export interface Reach {
  /** The socket's path, or `http://ADDRESS:PORT`. */
  readonly control?: string | undefined;
  /** Ends the wait for an answer. */
  readonly signal?: AbortSignal | undefined;
}

export interface Asked extends Reach {
  readonly json?: boolean | undefined;
}

type Method = 'GET' | 'POST' | 'DELETE';

/** Longer than a running lb4 takes for anything (control/api-server.ts). */
const PATIENCE_MS = 130_000;

/** A command that asks a running lb4. */
export function controlCommand(name: string, description: string): Command {
  const option = new Option(
    '--control <path>',
    'the socket of the lb4 that is asked, or http://ADDRESS:PORT (default: /run/lb4/control.sock)',
  );
  return new Command(name).description(description).addOption(
    option.argParser((path: string) => {
      if (path === '') throw new UsageError('--control= names no socket');
      return path;
    }),
  );
}

/** The same, which prints JSON on demand. */
export function askingCommand(name: string, description: string): Command {
  return controlCommand(name, description).option('--json', 'print what lb4 answers, as JSON');
}

/** With what is given of `query`. Rejects with an Lb4Error that says why there is no answer. */
export async function ask<T>(
  reach: Reach,
  method: Method,
  path: string,
  query: Readonly<Record<string, unknown>> = {},
  body?: object,
): Promise<T> {
  const place = placeOf(reach);
  const response = await send(place, method, withQuery(path, query), body, reach.signal);
  return answerOf<T>(response, place);
}

/** The same of an answer that has no end: its parts as they come. */
export async function listen(
  { signal, ...reach }: Reach,
  path: string,
  query: Readonly<Record<string, unknown>>,
): Promise<IncomingMessage> {
  const place = placeOf(reach);
  const response = await send(place, 'GET', withQuery(path, query), undefined, signal);
  return response.statusCode === 200 ? response : answerOf(response, place);
}

async function answerOf<T>(response: IncomingMessage, place: string): Promise<T> {
  const answer = parsed(await textOf(response, place), place);
  const { statusCode: status = 0 } = response;
  if (status === 200) return answer as T;
  const { why = '', message = `it answers with status ${status}` } = (answer as { error?: { why?: string; message?: string } }).error ?? {};
  throw errorOf(why, message);
}

function placeOf({ control }: Reach): string {
  const place = control ?? process.env['LB4_CONTROL'] ?? defaultControlPath();
  if (place === undefined) throw new UsageError('XDG_RUNTIME_DIR is not set; --control=PATH names the socket of the lb4 that is meant');
  return place;
}

function withQuery(path: string, query: Readonly<Record<string, unknown>>): string {
  const given = Object.entries(query).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)] as const]));
  const search = new URLSearchParams(Object.fromEntries(given)).toString();
  return search === '' ? path : `${path}?${search}`;
}

/** Prints `answer` as JSON where that is asked for, else the text of it. */
export function show<T>(answer: T, { json }: Asked, text: (answer: T) => string): void {
  process.stdout.write(json === true ? `${JSON.stringify(answer, undefined, 2)}\n` : text(answer));
}

/** Resolves when an answer begins. */
async function send(
  place: string,
  method: Method,
  path: string,
  body: object | undefined,
  signal: AbortSignal | undefined,
): Promise<IncomingMessage> {
  // Loaded here: commands that ask nobody start sooner.
  const { request } = await import('node:http');
  const isUrl = place.startsWith('http://');
  const token = process.env['LB4_CONTROL_TOKEN'];
  const options = {
    method,
    path,
    // None that was left open: the lb4 at its other end may have ended.
    agent: false as const,
    timeout: PATIENCE_MS,
    signal,
    headers: {
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...(isUrl && token !== undefined && { authorization: `Bearer ${token}` }),
    },
  };
  return new Promise((resolve, reject) => {
    const asked = isUrl ? request(urlOf(place), options, resolve) : request({ ...options, socketPath: place }, resolve);
    asked.on('error', (error) => reject(unreachable(error, place)));
    asked.on('timeout', () => asked.destroy(new TimeoutError(`the lb4 at ${place} does not answer`)));
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function textOf(response: IncomingMessage, place: string): Promise<string> {
  const parts: Buffer[] = [];
  try {
    for await (const part of response) parts.push(part as Buffer);
  } catch (error) {
    throw unreachable(error as Error, place);
  }
  return Buffer.concat(parts).toString();
}

function urlOf(place: string): URL {
  try {
    return new URL(place);
  } catch {
    throw new UsageError(`--control=${place} is no address; needed: a path, or http://ADDRESS:PORT`);
  }
}

function parsed(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new FailureError(`what answers at ${place} is no lb4, or another version of it`);
  }
}

function unreachable(error: Error, place: string): Lb4Error {
  if (error instanceof TimeoutError) return error;
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (['ENOENT', 'ECONNREFUSED', 'ENOTSOCK', 'ENOTDIR'].includes(code))
    return new AbsentError(
      `no lb4 takes orders at ${place}: none runs, or its [control] says otherwise; --control=PATH, or LB4_CONTROL, names another place`,
    );
  if (code === 'EACCES' || code === 'EPERM')
    return new PrivilegeError(`${place}: only its owner, and its group, may give orders (${code})`);
  return new FailureError(`${place}: ${message}`);
}

function errorOf(why: string, message: string): Lb4Error {
  if (why === 'unknown') return new UnknownNameError(message);
  if (why === 'refused' || why === 'later') return new RefusedError(message);
  if (why === 'wrong') return new UsageError(message);
  if (why === 'unauthorized') return new PrivilegeError(`${message}; LB4_CONTROL_TOKEN has it for this command`);
  return new FailureError(message);
}
