/** What a process may not have more and more of: memory of its own, heap, descriptors, pins. */
import { readFileSync } from 'node:fs';
import { type Balancer, sumOf } from '../lab/balancer.ts';

/**
 * What each may grow by, from the median of the second third of the rounds to that of the last one: a part, and so much at the least. In the first third, of
 * some minutes, V8 is still making itself at home: 56 MB of its own became 90 in twenty rounds, 97 in seventy.
 */
const MAY_GROW = { own: [0.1, 16e6], heap: [0.25, 8e6], descriptors: [0, 2], pins: [0, 0] } as const;
type Name = keyof typeof MAY_GROW;
const NAMES = Object.keys(MAY_GROW) as Name[];

export class Figures {
  readonly #rows: Record<Name, number>[] = [];

  /** A round's, of lb4 and of so many pins; what they are, in words. */
  async take(balancer: Balancer, pins: string): Promise<string> {
    const metrics = await balancer.metrics();
    const row = {
      own: ownBytes(balancer.running.pid),
      heap: sumOf(metrics, 'nodejs_heap_size_used_bytes'),
      descriptors: sumOf(metrics, 'process_open_fds'),
      pins: Number(pins),
    };
    this.#rows.push(row);
    return NAMES.map((name) => `${name} ${row[name] > 1e5 ? `${(row[name] / 1e6).toFixed(1)} MB` : row[name]}`).join(', ');
  }

  /** Those that have grown, in words. */
  grown(): string[] {
    const third = Math.max(1, Math.floor(this.#rows.length / 3));
    const [before, after] = [this.#rows.slice(-2 * third, -third), this.#rows.slice(-third)];
    return NAMES.flatMap((name) => {
      const [was, is] = [median(before, name), median(after, name)];
      const [part, least] = MAY_GROW[name];
      return is > was + Math.max(part * was, least) ? [`${name} grew from ${was} to ${is}`] : [];
    });
  }
}

/** Resident memory that is no mapping's: of a flow table, whose memory is there from the start, a process has the pages that it has looked at. */
function ownBytes(pid: number): number {
  return 1024 * Number(/^RssAnon:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

function median(rows: readonly Record<Name, number>[], name: Name): number {
  const values = rows.map((row) => row[name]).toSorted((a, b) => a - b);
  return values[values.length >> 1];
}
