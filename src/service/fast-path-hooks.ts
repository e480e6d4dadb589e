/** The fast path's places in the kernel, for the guard: `tc qdisc del`, another XDP program, `bpftool net detach` take them away. */
import type { HostState } from './guard.ts';

interface Hooks {
  missingHooks(): string[];
  repairHooks(): void;
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
