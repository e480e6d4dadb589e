import { type Check, endpointOf, type HttpSettings, type Target } from './check.ts';
import { checkOverConnection, type Talk } from './connection.ts';
import { excerpt } from './excerpt.ts';
import type { PortRotation } from './ports.ts';
import { OWN_HEADER } from './proxy-header.ts';

/** An answer must be understood within its first so many characters: neither an endless line nor endless headers are kept. */
const MAX_HEAD = 8192;

/**
 * Passes when the server answers a GET with a good status. The status line decides as soon as it is there (node:http
 * would wait for the end of the headers), and nothing after it is read. A redirect is an answer like any other.
 */
export function httpCheck(target: Target, settings: HttpSettings, ports?: PortRotation): Check {
  const talk = askWith(requestFor(target, settings), settings);
  return { run: (signal) => checkOverConnection(target, talk, signal, ports) };
}

/** One piece, so that a server that reads once has all of it. */
function requestFor(target: Target, { path, host, sendProxy }: HttpSettings): Buffer {
  const lines = [
    `GET ${path} HTTP/1.1`,
    `Host: ${host ?? endpointOf(target)}`,
    'User-Agent: lb4-health',
    'Accept: */*',
    'Connection: close',
  ];
  const request = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`);
  return sendProxy === undefined ? request : Buffer.concat([OWN_HEADER[sendProxy], request]);
}

function askWith(request: Buffer, { status: ranges }: HttpSettings): Talk {
  return (socket, started, end) => {
    let [head, length] = ['', 0];
    socket.setEncoding('latin1'); // a character for every byte, whatever the bytes are
    socket.on('data', (chunk: string) => {
      length += chunk.length;
      // What was looked at is not looked at again: a server may say hundreds of them, a byte at a time.
      head = afterInterim(head + chunk);
      const status = readStatus(head);
      if (status === 'more' && length <= MAX_HEAD) return;
      if (typeof status === 'string') end({ outcome: 'fail', reason: `not HTTP: ${excerpt(head)}` });
      else if (!ranges.some(([first, last]) => first <= status && status <= last)) end({ outcome: 'fail', reason: `HTTP ${status}` });
      else end({ outcome: 'pass', reason: `HTTP ${status} in ${(performance.now() - started).toFixed(1)} ms` });
    });
    socket.once('end', () => end({ outcome: 'fail', reason: 'connection closed before an answer' }));
    socket.write(request);
  };
}

const STATUS_LINE = /^HTTP\/1\.[01] (\d{3})(?: [^\n]*)?\r?\n/;
const BLANK_LINE = /\n\r?\n/;

/** What stands behind the interim answers that are whole. */
function afterInterim(head: string): string {
  for (let rest = head; ; ) {
    const line = STATUS_LINE.exec(rest);
    const blank = line !== null && isInterim(Number(line[1])) ? BLANK_LINE.exec(rest) : null;
    if (blank === null) return rest;
    rest = rest.slice(blank.index + blank[0].length);
  }
}

/** The status of the answer that `head` begins; `more` while it may still become one, or follow an interim one. */
function readStatus(head: string): number | 'more' | 'garbage' {
  const line = STATUS_LINE.exec(head);
  if (line === null) return mayBecomeStatusLine(head) ? 'more' : 'garbage';
  const status = Number(line[1]);
  return isInterim(status) ? 'more' : status;
}

function mayBecomeStatusLine(text: string): boolean {
  return !text.includes('\n') && 'HTTP/1.'.startsWith(text.slice(0, 'HTTP/1.'.length));
}

/** RFC 9110 15.2: the final answer still follows, except after 101. */
function isInterim(status: number): boolean {
  return status >= 100 && status < 200 && status !== 101;
}
