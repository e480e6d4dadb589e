import { destination } from './destination.ts';
import { dsr, dsrL2 } from './dsr.ts';
import type { Mode } from './mode.ts';
import { passthrough } from './passthrough.ts';
import { dsrGue, dsrIpip } from './wrapped.ts';

/** Every way to forward, by the name that a backend carries it under: a new one is a file and a line here. */
export const modes = { passthrough, destination, dsr, dsrL2, dsrGue, dsrIpip } satisfies Record<string, Mode>;

export type ModeName = keyof typeof modes;
