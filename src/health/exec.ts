import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { meaningOfError } from '../errno.ts';
import { type Check, type CheckResult, type ExecSettings, type Target } from './check.ts';
import { LastLine } from './last-line.ts';
import { whenLate } from './tries.ts';

/**
 * Passes when a command exits with 0. It runs without a shell, in a session and process group of its own: whatever it
 * leaves running when it exits, is late or is stopped is killed with the group. Only a process that founds a session of
 * its own (a daemon) escapes.
 */
export function execCheck(target: Target, settings: ExecSettings): Check {
  return {
    run: async (signal) => {
      if (signal.aborted) return STOPPED;
      try {
        return await watch(start(target, settings), target.timeoutMs, signal);
      } catch (error) {
        // It never ran: that says nothing about the server.
        return { outcome: 'unknown', reason: reasonOf(error as NodeJS.ErrnoException) };
      }
    },
  };
}

/** Of an error of Node's own (a command with a NUL in it), which has no errno, its message. */
function reasonOf(error: NodeJS.ErrnoException): string {
  return error.syscall === undefined ? error.message : `${error.message}: ${meaningOfError(error).words}`;
}

const STOPPED: CheckResult = { outcome: 'unknown', reason: 'stopped' };

function start({ address, port }: Target, { command, env }: ExecSettings): ChildProcess {
  const [program = '', ...args] = command;
  const path = process.env['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  return spawn(program, args, {
    detached: true, // setsid(2): a process group that can be killed as a whole
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: path, LB4_SERVER_ADDR: address, LB4_SERVER_PORT: String(port), ...env },
  });
}

/** Resolves when the process has ended, or was killed for being late or stopped; rejects if it could not be started. */
function watch(child: ChildProcess, timeoutMs: number, signal: AbortSignal): Promise<CheckResult> {
  return new Promise((resolve, reject) => {
    const [stdout, stderr] = [lastLineOf(child.stdout), lastLineOf(child.stderr)];
    let exit: (() => CheckResult) | undefined;
    const release = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      child.stdout?.destroy();
      child.stderr?.destroy();
    };
    const finish = (ifStillRunning: CheckResult) => {
      if (exit === undefined) killGroup(child);
      release();
      resolve(exit?.() ?? ifStillRunning);
    };
    const stop = () => finish(STOPPED);
    const timer = whenLate(() => finish({ outcome: 'fail', reason: `still running after ${timeoutMs} ms` }), timeoutMs);
    signal.addEventListener('abort', stop, { once: true });
    child.once('error', (error) => {
      release();
      reject(error);
    });
    child.once('exit', (code, killer) => {
      killGroup(child);
      exit = () => judge(code, killer, stderr.text || stdout.text);
    });
    // It has exited, and only now has all output been read. A daemon that holds the pipes delays this: then the timeout counts.
    child.once('close', stop);
  });
}

function lastLineOf(stream: Readable | null): LastLine {
  const last = new LastLine();
  stream?.setEncoding('utf8').on('data', (text: string) => last.add(text));
  return last;
}

function judge(code: number | null, killer: NodeJS.Signals | null, lastLine: string): CheckResult {
  const end = code === null ? `killed by ${killer}` : `exit ${code}`;
  return { outcome: code === 0 ? 'pass' : 'fail', reason: lastLine === '' ? end : `${end}: ${lastLine}` };
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // ESRCH: nobody is left in the group.
  }
}
