/** Servers that a program knows. */
import { type ExecFileException, execFile } from 'node:child_process';
import { readAddress, serverProblem } from '../config/address.ts';
import type { Answer, Found } from './answer.ts';

const LONGEST_MS = 10_000;
/** Of what it prints. */
const MOST_BYTES = 65_536;
const MOST_WEIGHT = 65_535;

/**
 * Runs `command` without a shell and reads what it prints: a server a line, `IP:PORT`, and after it, if wanted, `weight=N` and `backup`; lines
 * that are empty or begin with # say nothing. Rejects where it cannot run, fails, takes ten seconds, prints more than 64 KB, or a line that is
 * none of these: a list that is half understood is none.
 */
export async function findByProgram([program = '', ...args]: readonly string[], intervalMs: number, signal: AbortSignal): Promise<Answer> {
  return { found: readServers(await outputOf(program, args, signal)), holdsMs: intervalMs };
}

function outputOf(program: string, args: readonly string[], signal: AbortSignal): Promise<string> {
  const options = { timeout: LONGEST_MS, maxBuffer: MOST_BYTES, killSignal: 'SIGKILL', signal } as const;
  return new Promise((resolve, reject) => {
    execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(whatWentWrong(error, stderr), { cause: error }));
    });
  });
}

function whatWentWrong(error: ExecFileException, stderr: string): string {
  const said = stderr.trim().split('\n').at(-1) ?? '';
  if (error.code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') return `it prints more than ${MOST_BYTES} bytes`;
  if (error.killed) return `still running after ${LONGEST_MS / 1000} s`;
  const end = typeof error.code === 'number' ? `exit ${error.code}` : error.message;
  return said === '' ? end : `${end}: ${said.slice(0, 200)}`;
}

/** The servers in `text`. Throws, with the line's number, where one is none. */
export function readServers(text: string): Found[] {
  return text.split('\n').flatMap((line, i) => {
    const words = line.trim().split(/\s+/);
    if (words[0] === '' || words[0]?.startsWith('#')) return [];
    const found = readLine(words);
    if (typeof found === 'string') throw new Error(`line ${i + 1}: ${found}`);
    return [found];
  });
}

function readLine([place = '', ...words]: readonly string[]): Found | string {
  const addr = readAddress(place);
  const problem = 'problem' in addr ? addr.problem : serverProblem(addr);
  if ('problem' in addr || problem !== undefined) return `${JSON.stringify(place.slice(0, 60))} ${problem}`;
  let [weight, backup] = [1, false];
  for (const word of words) {
    const given = /^weight=(\d{1,5})$/.exec(word)?.[1];
    if (word === 'backup') backup = true;
    else if (given !== undefined && Number(given) <= MOST_WEIGHT) weight = Number(given);
    else return `${JSON.stringify(word.slice(0, 60))} is unknown; allowed: weight=0–${MOST_WEIGHT} and backup`;
  }
  return { addr, weight, backup };
}
