/**
 * Nanoseconds a packet of the TypeScript core, beside the same work in C (-O3) on the same layout, in one run.
 * Packets belong to random connections and alternate in direction; what is timed is `process` on batches of 64. Then the same with UDP beside
 * TCP, and UDP alone.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Verdict } from '../src/forward/verdict.ts';
import { ownMemory } from '../src/layout/memory.ts';
import { build, FRAMES, run } from './established.ts';
import { compile, median, spread, table } from './measure.ts';

const ROUNDS = 40;
const REPEATS = 5;
/** Connections of both protocols. */
const MIXED = 1_000;

function child(connections: number, udp: number): number[] {
  // A power of two as in every version so far: how full the table is weighs more than most of what is measured here.
  const capacity = Math.max(256, 2 ** Math.ceil(Math.log2((connections * 2) / 0.6)));
  const core = build(connections, ownMemory({ capacity, connections }), udp);
  const results = run(core, ROUNDS * 2).slice(ROUNDS);
  const forwarded = core.verdicts[Verdict.forwarded];
  if (forwarded !== FRAMES * ROUNDS * 2) throw new Error(`only ${forwarded} packets were forwarded`);
  return results;
}

const lines = (text: string): number[] => text.trim().split('\n').map(Number);

/** In a process of its own. `udp`: how many connections of a hundred are UDP's. */
function typescript(connections: number, udp: number): number {
  const command = [fileURLToPath(import.meta.url), String(connections), String(udp)];
  return median(lines(execFileSync(process.execPath, command, { encoding: 'utf8' })));
}

function main(): void {
  const program = compile('core');
  const rows = [['connections', 'TypeScript ns', 'C ns', 'C, three passes ns', 'TypeScript / C', '/ C three passes']];
  for (const connections of [1_000, 100_000, 1_000_000]) {
    const [ts, c1, c3]: [number[], number[], number[]] = [[], [], []];
    for (let i = 0; i < REPEATS; i++) {
      ts.push(typescript(connections, 0));
      c1.push(median(lines(execFileSync(program, [String(connections), String(ROUNDS), '1'], { encoding: 'utf8' }))));
      c3.push(median(lines(execFileSync(program, [String(connections), String(ROUNDS), '3'], { encoding: 'utf8' }))));
    }
    rows.push([
      connections.toLocaleString('en'),
      spread(ts),
      spread(c1),
      spread(c3),
      (median(ts) / median(c1)).toFixed(2),
      (median(ts) / median(c3)).toFixed(2),
    ]);
  }
  console.log(`ns a packet, median of ${REPEATS} runs of ${ROUNDS} rounds of ${FRAMES} packets (least–most of the runs)`);
  table(rows);
  const shares: Readonly<Record<string, number>> = { 'TCP alone': 0, '20 % UDP': 20, 'UDP alone': 100 };
  const mixed = Object.entries(shares).map(([name, udp]) => ({ name, udp, results: [] as number[] }));
  for (let i = 0; i < REPEATS; i++) for (const { udp, results } of mixed) results.push(typescript(MIXED, udp));
  console.log(`\nns a packet at ${MIXED.toLocaleString('en')} connections`);
  table([['', 'TypeScript ns'], ...mixed.map(({ name, results }) => [name, spread(results)])]);
}

if (process.argv[2]) console.log(child(Number(process.argv[2]), Number(process.argv[3])).join('\n'));
else main();
