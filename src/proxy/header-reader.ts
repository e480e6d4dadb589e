import type { Socket } from 'node:net';
import type { Endpoints } from './address.ts';
import { parseHeader } from './proxy-protocol.ts';

/** PROXY protocol, section 2: a sender emits the header at once, whole; three seconds and more are for a lost packet. */
const TIMEOUT_MS = 5000;

/**
 * Reads the PROXY header that a paused socket must begin with, and pauses it again; what follows the header is still to be read.
 * Calls one of the two, or none when the socket is destroyed first. What is kept is bounded by the longest header and one read.
 */
export function readHeader(socket: Socket, done: (endpoints: Endpoints | undefined) => void, failed: (reason: string) => void): void {
  let bytes: Buffer | undefined;
  const timer = setTimeout(() => fail('no header in 5 s'), TIMEOUT_MS);
  const onEnd = () => fail('closed before its end');
  const onClose = () => clearTimeout(timer);
  const leave = () => {
    clearTimeout(timer);
    socket.off('data', onData).off('end', onEnd).off('close', onClose).pause();
  };
  const fail = (reason: string) => {
    leave();
    failed(reason);
  };
  const onData = (chunk: Buffer) => {
    bytes = bytes === undefined ? chunk : Buffer.concat([bytes, chunk]);
    const parsed = parseHeader(bytes);
    if (parsed.kind === 'incomplete') return;
    if (parsed.kind === 'malformed') return fail(parsed.reason);
    leave();
    if (bytes.length > parsed.length) socket.unshift(bytes.subarray(parsed.length));
    done(parsed.endpoints);
  };
  socket.on('data', onData).on('end', onEnd).on('close', onClose).resume();
}
