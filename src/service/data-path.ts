/** What moves the traffic: the packet engine or the proxy. A service drives either in the same way. */

import type { LeftOut } from '../connlog/connection-log.ts';
import type { Ended } from '../connlog/line.ts';
import type { FrontendCounters, Source } from '../control/source.ts';
import type { CapturedFrame } from '../engine/captures.ts';
import type { CarriedFlow } from '../engine/flow-list.ts';
import type { DeadEnd } from '../engine/routes.ts';
import type { Logger } from '../log.ts';
import type { Book } from './books.ts';
import type { HostState } from './guard.ts';
import type { Plan } from './plan.ts';

/** Which connections are meant: those that fit all that is given. */
export interface CarriedQuery {
  /** Indexes. */
  readonly frontends?: ReadonlySet<number> | undefined;
  readonly servers?: ReadonlySet<number> | undefined;
  /** Addresses that begin with the first `bits` bits of `ip`, of either family. */
  readonly client?: { readonly ip: string; readonly bits: number; readonly port: number | undefined } | undefined;
  /** The packet modes: those that have ended and are still remembered, too. */
  readonly ended?: boolean | undefined;
}

/** A capture under way. */
export interface CarriedCapture {
  /** Packets that found no room. */
  readonly lost: number;
  /** What the kernel would forward is captured as well. */
  readonly takesBack: boolean;
  /** What has come since the last time, the oldest first, about so many bytes of all workers'. */
  read(most: number): CapturedFrame[];
  /** The same filter, which means others by now. */
  follow(query: CarriedQuery): void;
  close(): Promise<void>;
}

export interface DataPath extends Source {
  /** What it has put on this host and others can take away, for the guard: whatever a mode installs is here. */
  readonly hostStates: readonly HostState[];
  /** One for each worker: asks whether it lives, and resolves when its loop has answered, or it is gone. */
  readonly pulses: readonly (() => Promise<void>)[];
  /** `load`: connections now, those still opening or waiting included. */
  frontend(index: number): FrontendCounters & { readonly load: number };
  /** The packet modes: connections of a server whose answer is due, and those that it answered; both only grow. */
  answers?(index: number): { readonly due: number; readonly answered: number };
  /** The packet modes: ways from frontends to servers that lead nowhere now, those of connections that are left included. */
  deadEnds?(): readonly DeadEnd[];
  /** The same of a frontend. */
  frontendAnswers?(index: number): { readonly due: number; readonly answered: number };
  /** Passthrough: whether connections to servers leave, or may leave, from that address of this host. */
  usesSource?(ip: string): boolean;
  /** Who is connected to what: those that fit, `limit` at most. */
  flows(query: CarriedQuery, limit: number): Promise<{ readonly flows: readonly CarriedFlow[]; readonly more: boolean }>;
  /** The packet modes: copies what fits, up to `snaplen` bytes of each packet, until it is closed. Rejects with the system's error where it cannot. */
  capture?(query: CarriedQuery, snaplen: number): Promise<CarriedCapture>;
  /** The packet modes: the server, by its index, that a client of a frontend is to stay with (`affinity`), and for how long yet. */
  kept?(frontend: number, ip: string): { readonly server: number; readonly leftMs: number } | undefined;
  /** Ends those that fit. `reset`: how many of TCP were told so, both sides. Rejects with the system's error where nobody could be. */
  endFlows(query: CarriedQuery): Promise<{ readonly ended: number; readonly reset: number }>;
  /** Makes `plan` what is balanced; connections stay where they are. Rejects when it cannot, and then nothing has changed. */
  apply(plan: Plan): Promise<void>;
  /** Asks whether this host has changed so that what is installed on it must, too, and does that. Rejects when it cannot. */
  follow?(): Promise<void>;
  /** The packet modes: a worker hangs, or none does any more (pulse.ts). */
  hangs?(isHanging: boolean): void;
  /** lb4 stops: `apply` waits no longer for a worker that hangs. */
  giveUp(): void;
  /** Takes no new connection, lets running ones go on for `graceMs` or until `hurry` where it can, and leaves nothing behind. */
  stop(graceMs: number, hurry: AbortSignal): Promise<void>;
  /** The packet modes: why no other lb4 can take over from this one; undefined: one can. */
  obstacle?(): string | undefined;
  /** The packet modes: stops, and leaves everything as it is to the lb4 that takes over. Never rejects. */
  letGo?(): Promise<void>;
  /** Proxy mode: its listening sockets by address, for an lb4 that takes over and accepts beside this one. They stay this one's. */
  listeners?(): ReadonlyMap<string, number>;
  /** Proxy mode: adds what another lb4 has counted, from now on. Returns the lines of those who are not here. */
  credit?(book: Book): Book;
  /**
   * The packet modes: stops because lb4 itself has failed, and leaves what the next lb4 can go on with, as a kill does.
   * @param hasServed false: the start failed after the data path was there
   */
  abandon?(hasServed: boolean): Promise<void>;
}

/** A connection that has ended, as data paths tell of it. */
export interface EndedFlow extends Pick<Ended, 'at' | 'protocol' | 'client' | 'to' | 'via' | 'address' | 'end'> {
  /** Indexes; of no server -1. */
  readonly frontend: number;
  readonly server: number;
  /** Milliseconds from its first packet to `at`; undefined: nobody here has seen that. And from its last one. */
  readonly ageMs: number | undefined;
  readonly quietMs: number;
  /** Payload bytes; undefined: they do not come by. */
  readonly bytesTx: number | undefined;
  readonly bytesRx: number | undefined;
}

/** What a data path tells of itself. */
export interface Reports {
  /** Something that passed makes a server, by index, look ill. */
  readonly signal: (server: number, reason: string) => void;
  /** It died: nothing is forwarded any more. */
  readonly failed: (error: Error) => void;
  /** Connections have ended, for the connection log. */
  readonly ended: (flows: readonly EndedFlow[], left: LeftOut) => void;
  /** What the file calls a frontend, by its index: the last one that had it. */
  readonly nameOf: (frontend: number) => string | undefined;
  readonly log: Logger;
}
