/** Lists of processors, `0-3,8`, as taskset(1) and cpuset(7) write them: read and written. */

/** The greatest number of a processor that a list may have: cpu_set_t's (CPU_SET(3)). */
export const LAST_CPU = 1023;

const LIST = /^\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*$/;

/** The processors in the text's order, which need not be theirs; or what is wrong with it. */
export function readCpus(text: string): { readonly cpus: readonly number[] } | { readonly problem: string } {
  if (!LIST.test(text)) return { problem: 'is not a list of processors' };
  const cpus = new Set<number>();
  for (const range of text.split(',')) {
    const [first = 0, last = first] = range.split('-').map(Number);
    if (last < first) return { problem: `has a range that runs backwards, ${range}` };
    if (last > LAST_CPU) return { problem: `goes beyond processor ${LAST_CPU}` };
    for (let cpu = first; cpu <= last; cpu++) {
      if (cpus.has(cpu)) return { problem: `names processor ${cpu} twice` };
      cpus.add(cpu);
    }
  }
  return { cpus: [...cpus] };
}

/** The text of a list, in its order; `none` of an empty one. */
export function formatCpus(cpus: readonly number[]): string {
  const ranges: [first: number, last: number][] = [];
  for (const cpu of cpus) {
    const range = ranges.at(-1);
    if (range !== undefined && range[1] + 1 === cpu) range[1] = cpu;
    else ranges.push([cpu, cpu]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',') || 'none';
}
