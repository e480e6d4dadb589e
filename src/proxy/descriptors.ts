/** How many connections this process has descriptors for. */
import { readFileSync } from 'node:fs';

/** For all else: libuv, listeners and their duplicates, health checks, statistics. Half of a limit that is lower than twice this. */
const RESERVED = 1024;

/** RLIMIT_NOFILE (Node raises it to the hard limit as it starts) less a reserve, two descriptors a connection. */
export function connectionLimit(): number {
  const limit = Number(/^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]);
  return Math.floor((limit - Math.min(RESERVED, limit / 2)) / 2);
}
