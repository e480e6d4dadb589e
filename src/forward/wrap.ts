/**
 * Puts frames of wrapped flows into another packet, as their flow and its next hop say: what pass 3 of the pipeline does in place of a rewrite. The
 * packet itself stays as it is, its TTL too.
 */
import type { FlowTable } from '../flow/table.ts';
import * as Flow from '../layout/flow.ts';
import * as Frame from '../layout/frames.ts';
import * as Hop from '../layout/hops.ts';
import * as Field from '../packet/fields.ts';
import * as Tunnel from '../packet/tunnel.ts';

export interface WrapParts {
  readonly slab: Field.Slab;
  readonly frames: Int32Array;
  readonly table: FlowTable;
  readonly hops: Int32Array;
}

/**
 * Wraps the IP packet of `length` bytes at word `ip` of the frame at word `f` of the descriptors, by the flow at word `at`, and gives it its next hop.
 * One whose next hop wraps nothing any more goes nowhere: whoever calls has asked (slow-path.ts), the main thread has changed it since.
 */
export type Wrap = (f: number, ip: number, length: number, at: number) => void;

// Copied into this module: an imported binding is a load at each use (pipeline.ts).
const { OFFSET, LENGTH, FLAGS, FLAG_TUNNEL, INTERFACE, OUT, TUNNEL: FRAME_TUNNEL, DROP } = Frame;
const { DELTAS, HOPS_SHIFT, NEXT_HOP, NEW_SOURCE } = Flow;
const { SHIFT, ETHERNET, INTERFACE: HOP_INTERFACE, OUT: HOP_OUT, TUNNEL, TUNNEL_SOURCE, TUNNEL_DESTINATION } = Hop;
const { ETHERNET_HALF } = Field;
const { GUE, IPIP, MOST_HOPS, HOPS_WORD } = Tunnel;

/** For one core's frames. */
export function createWrap({ slab: { words, halves }, frames, table, hops }: WrapParts): Wrap {
  const flow = table.words;

  return function wrap(f: number, ip: number, length: number, at: number): void {
    const hop = flow[at + NEXT_HOP] << SHIFT;
    const tunnel = hops[hop + TUNNEL];
    if (tunnel === 0) {
      frames[f + OUT] = DROP;
      return;
    }
    const outgoing = flow[at + DELTAS];
    const isGue = (tunnel & 0xffff) !== IPIP;
    const count = isGue ? (outgoing >>> HOPS_SHIFT) & MOST_HOPS : 0;
    const bytes = isGue ? GUE + count * 4 : IPIP;
    const ports = (outgoing & 0xffff) | (tunnel & 0xffff0000);
    const outer = Tunnel.wrap(words, ip, length, bytes, hops[hop + TUNNEL_SOURCE], hops[hop + TUNNEL_DESTINATION], ports);
    for (let i = 0; i < count; i++) words[outer + HOPS_WORD + i] = flow[at + NEW_SOURCE + i];
    halves[(outer << 1) + ETHERNET_HALF] = hops[hop + ETHERNET];
    words[outer - 3] = hops[hop + ETHERNET + 1];
    words[outer - 2] = hops[hop + ETHERNET + 2];
    words[outer - 1] = hops[hop + ETHERNET + 3];
    frames[f + OFFSET] = outer << 2;
    frames[f + LENGTH] = length + bytes;
    frames[f + FLAGS] |= FLAG_TUNNEL;
    frames[f + FRAME_TUNNEL] = bytes;
    frames[f + INTERFACE] = hops[hop + HOP_INTERFACE];
    frames[f + OUT] = hops[hop + HOP_OUT];
  };
}
