/**
 * The fast path's places in the kernel, for the guard: `tc qdisc del`, another XDP program, `bpftool net detach` take them away; and its pins,
 * by which they outlive lb4.
 */
import type { HostState } from './guard.ts';

interface Hooks {
  missingHooks(): string[];
  repairHooks(): void;
  unpinned(): string[];
  pinAgain(): void;
}

/** @param engine whose programs stand there */
export function fastPathHooks(engine: Hooks): HostState {
  return {
    what: 'fast_path',
    name: 'places of the fast path',
    usually: 'a change of qdiscs or XDP programs does this',
    // Packets go up, and are forwarded by the workers.
    serves: true,
    verify: async () => engine.missingHooks(),
    repair: async () => engine.repairHooks(),
  };
}

/** @param engine whose maps and links are pinned */
export function fastPathPins(engine: Hooks): HostState {
  return {
    what: 'fast_path_pins',
    name: 'pins of the fast path',
    usually: 'whoever cleans up /sys/fs/bpf does this',
    // All goes on, until lb4 dies.
    serves: true,
    verify: async () => engine.unpinned(),
    repair: async () => engine.pinAgain(),
  };
}
