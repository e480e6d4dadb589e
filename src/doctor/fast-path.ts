import type { FastPath, Passthrough } from '../config/model.ts';
import { capable } from '../io/capabilities.ts';
import { fastPathObstacle } from '../io/fast-path.ts';
import { read } from '../rules/read.ts';
import { type Finding, fail, ok, warn } from './finding.ts';
import { AS_ROOT, namesLacking } from './privileges.ts';

/** Without CAP_PERFMON the verifier also follows what a processor may speculate, and gives up: it is too much. */
const NEEDED = ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN'] as const;
const NEEDS = 'docs/operations.md, "The fast path"';

/** @param asked undefined: without a file, which may ask for any */
export function fastPath(asked?: Pick<Passthrough, 'io' | 'fastPath'>): Finding[] {
  const interpreted =
    read('/proc/sys/net/core/bpf_jit_enable') === '0'
      ? [warn('BPF', 'its compiler is off: filters and programs are interpreted', 'sysctl -w net.core.bpf_jit_enable=1')]
      : [];
  if (asked?.io === 'pcap') return [...interpreted, judgePcap(asked.fastPath)];
  // To load programs it suffices.
  const lacking = capable('CAP_SYS_ADMIN') ? '' : namesLacking(NEEDED);
  return [...interpreted, judgeFastPath(asked?.fastPath, fastPathObstacle(), lacking)];
}

/**
 * How much it matters that there is none: what asks for it does not start, what may have it is slower, and else nobody misses it.
 * @param obstacle why there is none; undefined: there is
 * @param lacking capabilities, in which case the obstacle is theirs
 */
export function judgeFastPath(asked: FastPath | undefined, obstacle: string | undefined, lacking: string): Finding {
  if (obstacle === undefined) return ok('BPF', `the programs of the fast path load${asked === 'off' ? '; fast_path is "off"' : ''}`);
  const why = lacking === '' ? obstacle : `this process lacks ${lacking}`;
  if (asked === 'off') return ok('BPF', `fast_path is "off"; there would be none: ${why}`);
  const mend = lacking === '' ? NEEDS : AS_ROOT;
  if (asked === 'auto' || asked === undefined) return warn('BPF', `no fast path in the kernel: ${why}`, mend);
  const message = `fast_path = "${asked}", but no fast path in the kernel: ${why}`;
  return fail('BPF', message, `${mend}; fast_path = "auto" starts without`);
}

function judgePcap(asked: FastPath): Finding {
  if (asked === 'off') return ok('BPF', 'fast_path is "off"');
  return warn('BPF', `fast_path = "${asked}", but io = "pcap" has no fast path`, 'io = "ring"');
}
