/** The packet worker's thread, held up or killed. Nothing from outside does that to one thread, so strace meddles with its poll(2). */
import { readdirSync, readFileSync } from 'node:fs';
import type { Namespace } from './lab.ts';
import type { Running } from './processes.ts';
import { waitUntil } from './wait.ts';

/** The thread that waits in poll(2) for two descriptors, the packet socket and its eventfd, and not for ever. */
function pollingThread(pid: number): string | undefined {
  const poll = process.arch === 'arm64' ? '73' : '7';
  return readdirSync(`/proc/${pid}/task`).find((tid) => {
    const [number, , descriptors, timeout] = readFileSync(`/proc/${pid}/task/${tid}/syscall`, 'utf8').split(' ');
    return number === poll && descriptors === '0x2' && timeout !== '0xffffffff';
  });
}

/**
 * Attaches strace to the worker of process `pid`, once that waits for frames.
 * @param injections what its next poll(2) and further ones do, in strace's words: `error=EIO`, `delay_exit=1000000:when=1` (µs) …
 */
export async function injectPoll(namespace: Namespace, pid: number, ...injections: string[]): Promise<Running> {
  const thread = await waitUntil(() => pollingThread(pid), { what: 'the worker to wait for frames', every: 1 });
  const options = injections.flatMap((injection) => ['-e', `inject=poll,ppoll:${injection}`]);
  return namespace.start(['strace', '-p', thread, '-e', 'trace=poll,ppoll', ...options]);
}
