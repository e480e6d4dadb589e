/** What `--fan-out` asks of a host: the kernel's NAT, its rules, processes that hear, and room in conntrack's table. */
import type { Config } from '../config/model.ts';
import { EXIT, Lb4Error } from '../errors.ts';
import { deadHolder, FAN_OUT_LOCK, lockHolder } from '../io/namespace-lock.ts';
import { renderFanOutScript } from '../rules/fan-out.ts';
import { assertDialect, fanOutsFor } from '../rules/fan-out-config.ts';
import { read } from '../rules/read.ts';
import { fanOutDialect, runRules } from '../rules/run.ts';
import { type Piece, piecesOf } from '../rules/status.ts';
import { counted, type Finding, fail, ok, warn } from './finding.ts';
import { AS_ROOT, capabilities } from './privileges.ts';

const CHECK = 'fan-out';
/** How the script tells of processes. */
const PROCESS = 'process ';
/** Of conntrack's table, of which each connection has an entry: above it a burst may fill it. */
const FULL = 0.8;

/** What is known of this host; another one in tests. */
export interface Looks {
  readonly holder: { readonly pid?: number } | undefined;
  readonly dead: { readonly pid?: number } | undefined;
  /** What the script's `status` says of the configuration. */
  status(config: Config): Promise<string>;
  read(path: string): string | undefined;
}

export async function fanOut(config: Config, looks: Looks = looksHere()): Promise<Finding[]> {
  return [capabilities(), ...killed(config, looks), ...(await rulesAndProcesses(config, looks)), ...conntrack(looks)];
}

function looksHere(): Looks {
  return {
    holder: lockHolder(FAN_OUT_LOCK),
    dead: deadHolder(FAN_OUT_LOCK),
    status: async (config) => {
      const dialect = await fanOutDialect();
      assertDialect(config, dialect);
      return (await runRules(renderFanOutScript(fanOutsFor(config), dialect), 'status')).output;
    },
    read,
  };
}

function killed({ file }: Config, { dead }: Looks): Finding[] {
  if (dead === undefined) return [];
  const message = `an lb4 --fan-out (pid ${dead.pid ?? 'unknown'}) was killed here: its rules go on, and nobody takes out a process that dies`;
  return [fail('killed', message, `start it again; or, never to: lb4 rules --fan-out --remove --config=${file}`)];
}

async function rulesAndProcesses(config: Config, looks: Looks): Promise<Finding[]> {
  let pieces: Piece[];
  try {
    pieces = piecesOf(await looks.status(config));
  } catch (error) {
    if (!(error instanceof Lb4Error)) throw error;
    const isDenied = error.exitCode === EXIT.missing && !error.message.includes('not found');
    return [fail(CHECK, error.message, isDenied ? AS_ROOT : 'apt-get install nftables')];
  }
  const isProcess = ({ text }: Piece) => text.startsWith(PROCESS);
  const rules = pieces.filter((piece) => !isProcess(piece));
  return [...rulesOf(config, rules, looks), ...processesOf(config, pieces.filter(isProcess))];
}

/** One that runs has them as its checks say, which this process does not know, and puts back what is missing. */
function rulesOf({ file }: Config, pieces: readonly Piece[], { holder }: Looks): Finding[] {
  if (holder !== undefined) return [ok(CHECK, `an lb4 --fan-out (pid ${holder.pid ?? 'unknown'}) runs here and looks after the rules`)];
  const [present, missing, stale] = (['present', 'missing', 'stale'] as const).map((state) =>
    pieces.filter((piece) => piece.state === state).map(({ text }) => text),
  ) as [string[], string[], string[]];
  if (present.length === 0 && stale.length === 0)
    return [
      warn(
        CHECK,
        'none of its rules are here, and no lb4 --fan-out runs: connections go to the ports themselves',
        `lb4 --fan-out --config=${file}; or, without a running lb4: lb4 rules --fan-out --apply --config=${file}`,
      ),
    ];
  const mend = `lb4 rules --fan-out --apply --config=${file}`;
  if (missing.length > 0) return [fail(CHECK, `${counted(missing.length, 'rule')} of the file's missing: ${missing[0]}`, mend)];
  if (stale.length > 0) return [warn(CHECK, `${counted(stale.length, 'rule')} here that the file has not: ${stale[0]}`, mend)];
  return [
    ok(CHECK, `the kernel has all rules of the file (${present.length}); nobody takes out a process that dies: no lb4 --fan-out runs`),
  ];
}

function processesOf({ fanOut: all = [] }: Config, pieces: readonly Piece[]): Finding[] {
  if (pieces.length === 0 && all.length > 0)
    return [warn('processes', 'whether they listen cannot be told without ss', 'apt-get install iproute2')];
  const deaf = pieces.filter(({ state }) => state === 'missing').map(({ text }) => text.slice(PROCESS.length));
  if (deaf.length === 0) return [ok('processes', `all ${pieces.length} listen at all addresses`)];
  return deaf.map((which) => {
    const mend = which.includes('at all addresses') ? 'have it listen at 0.0.0.0 or [::]' : 'start it, or take its port out of the file';
    return fail('processes', `the process ${which}; its share of connections is refused`, mend);
  });
}

function conntrack({ read: look }: Looks): Finding[] {
  const [count, most] = ['count', 'max'].map((name) => Number(look(`/proc/sys/net/netfilter/nf_conntrack_${name}`) ?? Number.NaN)) as [
    number,
    number,
  ];
  if (!(count >= most * FULL)) return [];
  const message = `conntrack's table has ${count.toLocaleString('en')} of ${most.toLocaleString('en')} entries, and each connection takes one: when it is full new ones are dropped`;
  return [warn('conntrack', message, `sysctl -w net.netfilter.nf_conntrack_max=${2 * most}`)];
}
