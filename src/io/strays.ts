/**
 * Programs of the fast path that stand at interfaces of this network namespace though no lb4 has them: one that was killed has pinned them
 * where this process cannot take the pins away (a bpffs of another mount namespace, or one that is read-only). They would go on by flows
 * that nobody knows any more: a new connection with the ports of an old one would get half of it.
 */
import { closeSync } from 'node:fs';
import { FailureError, messageOf } from '../errors.ts';
import { eachOf } from './each.ts';
import { interfacesNow } from './interfaces.ts';
import { type Interface, native } from './native.ts';
import { leaveClsact } from './pins.ts';

/** As native/bpf has them. */
const NAMES = ['lb4_tc', 'lb4_xdp'];
const MEND = 'as root, on the host itself: lb4 rules --remove, or bpftool net, and bpftool link detach';

interface Place {
  readonly hook: 'tcx' | 'clsact' | 'xdp';
  readonly link: Interface;
  readonly program: number;
}

/**
 * Takes away every program of lb4's. To be called where no lb4 of this network namespace has any.
 * @param mustKnow there may be some: an error, too, where this process may not ask
 * @param areNobodys asked once they are found: whose lb4 started meanwhile has them
 * @throws an error of one line that says what stands where, and how to take it away
 */
export function removeStrays(mustKnow: boolean, areNobodys = () => true): void {
  const unknown = new Set<string>();
  const strays = interfacesNow().flatMap((link) => programsOf(link, unknown));
  if (strays.length > 0 && areNobodys()) eachOf(strays, remove);
  if (mustKnow && unknown.size > 0)
    throw new FailureError(
      `programs of an lb4 that died may still forward, and this one cannot tell (${[...unknown].join('; ')}); ${MEND}`,
    );
}

/** @param unknown gets what could not be found out */
function programsOf(link: Interface, unknown: Set<string>): Place[] {
  const ask = <T>(question: () => T): T | undefined => {
    try {
      return question();
    } catch (error) {
      // It has gone meanwhile.
      if ((error as NodeJS.ErrnoException).code !== 'ENODEV') unknown.add(messageOf(error));
      return undefined;
    }
  };
  const tcx = ask(() => tcxPrograms(link));
  const xdp = ask(() => native().xdpProgram(link.index)) ?? 0;
  const places: Place[] = (tcx ?? []).map((program) => ({ hook: 'tcx', link, program }));
  if (xdp !== 0) places.push({ hook: 'xdp', link, program: xdp });
  const ours = places.filter((place) => isOurs(place, unknown));
  if (tcx !== undefined) return ours;
  // lb4 uses cls_bpf where there is no tcx, at a priority of its own, by which it is known.
  const program = ask(() => native().clsactProgram(link.index)) ?? 0;
  return program === 0 ? ours : [...ours, { hook: 'clsact', link, program }];
}

/** Undefined: this kernel has no tcx. */
function tcxPrograms({ index }: Interface): number[] | undefined {
  try {
    return native().tcxPrograms(index);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EINVAL') return undefined;
    throw error;
  }
}

function isOurs({ program, hook, link }: Place, unknown: Set<string>): boolean {
  const name = native().programName(program);
  // What it says where this process may not ask.
  if (name === `program ${program}`) unknown.add(`${name} stands at ${hook} of ${link.name}, and only CAP_SYS_ADMIN may ask for its name`);
  return NAMES.includes(name);
}

function remove({ hook, link, program }: Place): void {
  try {
    if (hook === 'clsact') leaveClsact(link.index);
    // The kernel may just have put away those of a process that has ended.
    else if (!detach(program, link.index) && standsAt(hook, link.index, program)) throw new Error('it has no link');
  } catch (error) {
    throw new FailureError(
      `another lb4's program ${program} stands at ${hook} of ${link.name} and cannot be taken away: ${messageOf(error)}; ${MEND}`,
      { cause: error },
    );
  }
}

function standsAt(hook: 'tcx' | 'xdp', index: number, program: number): boolean {
  return hook === 'xdp' ? native().xdpProgram(index) === program : native().tcxPrograms(index).includes(program);
}

/** Whether there was a link of it. */
function detach(program: number, ifindex: number): boolean {
  const links = native().openLinks(program);
  try {
    const here = links.filter((link) => native().linkedInterface(link) === ifindex);
    for (const link of here) native().detachLink(link);
    return here.length > 0;
  } finally {
    for (const link of links) closeSync(link);
  }
}
