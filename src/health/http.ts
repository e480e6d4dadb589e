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
    let head = '';
    socket.setEncoding('latin1'); // a character for every byte, whatever the bytes are
    socket.on('data', (chunk: string) => {
      head += chunk;
      const status = readStatus(head);
      if (status === 'more' && head.length <= MAX_HEAD) return;
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

/** The status of the answer that `head` begins, interim ones skipped; `more` while it may still become one. */
function readStatus(head: string): number | 'more' | 'garbage' {
  for (let rest = head; ; ) {
    const line = STATUS_LINE.exec(rest);
    if (line === null) return mayBecomeStatusLine(rest) ? 'more' : 'garbage';
    const status = Number(line[1]);
    if (!isInterim(status)) return status;
    const blank = BLANK_LINE.exec(rest);
    if (blank === null) return 'more';
    rest = rest.slice(blank.index + blank[0].length);
  }
}

function mayBecomeStatusLine(text: string): boolean {
  return !text.includes('\n') && 'HTTP/1.'.startsWith(text.slice(0, 'HTTP/1.'.length));
}

/** RFC 9110 15.2: the final answer still follows, except after 101. */
function isInterim(status: number): boolean {
  return status >= 100 && status < 200 && status !== 101;
}
