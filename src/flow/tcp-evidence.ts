/**
 * What a TCP segment shows, by its numbers: whoever cannot see a connection's packets should not be able to end one, or to hold one
 * open that no server has (RFC 5961 says the same of the ends). lb4 is to be no easier to fool than they are.
 *
 *     ORIGIN ──── acknowledged by the other side ──── ORIGIN + BYTES
 *                 └──── what its FIN or RST may say ────┘
 *
 * On an idle connection all is acknowledged, and one number is left; while packets pass, some more may have been lost before lb4 saw
 * them. What is believed all the same, though it was forged, is
 * undone by what the ends show later.
 */
import * as Flow from '../layout/flow.ts';
import { swap32 } from '../packet/address.ts';
import { ACK, FIN, RST, SYN } from '../packet/fields.ts';
import { bytesOf, idleOf } from './counts.ts';
import {
  ACKNOWLEDGES,
  ANSWERS,
  BEARS_OUT,
  BELONGS,
  BEYOND,
  CHALLENGES,
  ESTABLISHES,
  FINISHES,
  GIVES_UP,
  HEARD,
  OPENS,
  RESETS,
  REVIVES,
  type Segment,
  WAITS,
} from './evidence.ts';
import {
  ANSWERED,
  CLOSED,
  CLOSING,
  COUNTED,
  ESTABLISHED,
  FIN_CLIENT,
  FIN_SERVER,
  ONE_WAY,
  OPENING,
  RESET_BEYOND,
  RESET_BY_SERVER,
  STATE_MASK,
  TIME_WAIT,
  WAITS_CLIENT,
  WAITS_SERVER,
} from './life.ts';

/** More than that is not in flight: a window (RFC 7323 allows 1 GB, Linux 6 MB and seldom more). */
const IN_FLIGHT = 16 << 20;
/** Direct server return, where no acknowledgement is seen: so many bytes of the last ones may have been sent twice. */
const SENT_TWICE = 1 << 20;
/** Where a client may have come to before its first acknowledgement is seen: the window that a server offers at first. */
const FIRST_WINDOW = 64 << 10;
/**
 * While packets pass, so many bytes may have been lost before lb4 could see them. Fewer than a window, so that a reset which its
 * receiver does not believe is answered (RFC 5961), and undone …
 */
const LOST = 32 << 10;
/** … and they pass while the last one is not so many milliseconds ago. */
const ACTIVE_MS = 500;
/** Of what an ICMP error quotes: so far it may lie before what is acknowledged, or beyond what has passed. */
const AROUND = 64 << 10;
/** A FIN that is further beyond what has passed than this does not even wait. */
const WAITS_WITHIN = 1 << 20;
/** A reset of the server's that was odd. */
const ODD = RESET_BY_SERVER | RESET_BEYOND;
/** What was under way when a reset passed has arrived after so many milliseconds. */
const UNDER_WAY_MS = 1000;

/**
 * What `segment` shows of the connection with the LIFE word `life`; 0: nothing. `at` and `other` are the word indexes of the flow it
 * goes by and of the opposite one (negative where there is none).
 */
export function weigh(flows: Int32Array, at: number, other: number, life: number, segment: Segment): number {
  const shown = judge(flows, at, other, life, segment) | weighWaiting(at, other, life, segment);
  return shown !== 0 && (segment.flags & ACK) !== 0 ? shown | ACKNOWLEDGES : shown;
}

function judge(flows: Int32Array, at: number, other: number, life: number, segment: Segment): number {
  const { flags, isReply } = segment;
  const state = life & STATE_MASK;
  if (flags & RST) return state === CLOSED ? 0 : resets(flows, at, other, life, segment);
  if (flags & SYN) return weighSyn(flows, at, other, life, segment);
  if ((flags & ACK) === 0) return 0;
  if (state === OPENING) {
    const isFirst = (life & ONE_WAY) !== 0 && isSent(flows, at, segment.sequence);
    return isFirst ? ESTABLISHES | BELONGS | finishes(flows, at, other, life, segment) : 0;
  }
  if (state === ANSWERED) {
    if (isReply) return finishes(flows, at, other, life, segment) | (segment.payload > 0 ? BELONGS : 0);
    // What lies beyond its window the server never hears.
    const isHeard = isNear(segment.sequence - flows[at + Flow.ORIGIN], FIRST_WINDOW);
    if (!isHeard || !acknowledges(flows, at, other, life, segment)) return 0;
    return ESTABLISHES | BELONGS | finishes(flows, at, other, life, segment);
  }
  if (state === CLOSED) return weighAfterReset(flows, at, other, life, segment);
  if (flags & FIN) return finishes(flows, at, other, life, segment);
  if (state !== CLOSING && state !== TIME_WAIT) return BELONGS;
  const revived = weighAfterFin(flows, at, other, life, segment);
  // Whoever only acknowledges keeps nothing that both have finished.
  return revived !== 0 || state === CLOSING || other < 0 ? revived | BELONGS : 0;
}

/**
 * Whether a segment with that sequence number, which an ICMP error quotes, may be under way: its receiver, whose flow is at `at`, has not acknowledged it, and its
 * sender, whose flow is at `other`, has come so far (RFC 5927 section 4.1). Ends ask the same, exactly; here what
 * was acknowledged or lost a moment ago may be off by AROUND.
 */
export function isInFlight(flows: Int32Array, at: number, other: number, sequence: number): boolean {
  const acknowledged = swap32(flows[at + Flow.ACKNOWLEDGED]);
  // Direct server return, after the client's SYN alone: nobody has seen the server's number.
  if (other < 0 && acknowledged === 0) return true;
  if (!isNear(sequence - acknowledged + AROUND, IN_FLIGHT + AROUND)) return false;
  if (other < 0) return true;
  const next = flows[other + Flow.ORIGIN] + bytesOf(flows, other);
  // What repeats itself is counted twice: then `next` says little, and the acknowledgement alone where the sender is.
  return isNear(next + AROUND - sequence, IN_FLIGHT + AROUND) || !isWithin(next - acknowledged);
}

/** Writes down what a segment has shown that later ones are judged by. Before BYTES counts its payload. */
export function remember(flows: Int32Array, at: number, other: number, shown: number, segment: Segment): void {
  const { sequence, payload } = segment;
  rememberWaiting(flows, at, other, shown, segment);
  if (shown & (OPENS | ANSWERS)) begin(flows, at, other, sequence + 1);
  // Exact from now on: the number of the FIN.
  if (shown & FINISHES) flows[at + Flow.ORIGIN] = sequence + payload;
  if ((shown & REVIVES) === 0 && (shown & HEARD) === 0) return;
  // What passed meanwhile was not counted: both numbers anew, by the server's word.
  if (other >= 0 && !segment.isReply) return;
  flows[at + Flow.ORIGIN] = sequence - bytesOf(flows, at);
  if (other >= 0) flows[other + Flow.ORIGIN] = segment.acknowledgment - bytesOf(flows, other);
}

function rememberWaiting(
  flows: Int32Array,
  at: number,
  other: number,
  shown: number,
  { pendingFins, sequence, payload, now }: Segment,
): void {
  if (shown & BEARS_OUT) {
    const from = other < 0 ? at : other;
    const place = pendingFins.find(from, now);
    flows[from + Flow.ORIGIN] = pendingFins.number(place);
    flows[from + Flow.BYTES] += pendingFins.payload(place);
    pendingFins.drop(place);
  }
  if (shown & WAITS) {
    // What goes by the flow itself pass 3 counts.
    pendingFins.put(at, sequence + payload, shown & BELONGS ? 0 : payload, now);
    return;
  }
  if (payload === 0 && (shown & FINISHES) === 0) return;
  // Whoever goes on has not finished there, and whose FIN counts waits no more.
  const own = pendingFins.find(at, now);
  if (own >= 0 && ((shown & FINISHES) !== 0 || ((sequence + payload - pendingFins.number(own)) | 0) > 0)) pendingFins.drop(own);
}

/** A flow's numbers from its first segment on. `first` is the number of its first byte. */
export function begin(flows: Int32Array, at: number, other: number, first: number): void {
  flows[at + Flow.ORIGIN] = first - bytesOf(flows, at);
  // What the other side has until it says more.
  if (other >= 0) flows[other + Flow.ACKNOWLEDGED] = swap32(first);
}

/**
 * Forgets what a client has sent twice, once nothing is in flight: the server was heard last, and both have been silent for `quiet` ms.
 * The server's own numbers are not to be moved by what a client says.
 */
export function settle(flows: Int32Array, at: number, other: number, now: number, quiet: number): void {
  const idle = idleOf(flows, at, now);
  const otherIdle = idleOf(flows, other, now);
  if (idle < quiet || otherIdle < quiet || otherIdle - idle > quiet / 4) return;
  flows[at + Flow.ORIGIN] = swap32(flows[other + Flow.ACKNOWLEDGED]) - bytesOf(flows, at);
}

function weighSyn(flows: Int32Array, at: number, other: number, life: number, segment: Segment): number {
  const { flags, isReply, sequence } = segment;
  const state = life & STATE_MASK;
  const belongs = segment.payload > 0 ? BELONGS : 0;
  if (isReply) {
    // Without ACK: both have opened at once (RFC 9293 section 3.5).
    if (flags & ACK) return state <= ANSWERED && acknowledges(flows, at, other, life, segment) ? ANSWERS | belongs : 0;
    return state === OPENING ? ANSWERS : 0;
  }
  if (flags & ACK) return state === ANSWERED && acknowledges(flows, at, other, life, segment) ? ESTABLISHES | BELONGS : 0;
  if (state === ANSWERED) return ((sequence + 1 - flows[at + Flow.ORIGIN]) | 0) === 0 ? OPENS : 0;
  return state === OPENING || state >= TIME_WAIT ? OPENS : 0;
}

function resets(flows: Int32Array, at: number, other: number, life: number, segment: Segment): number {
  const { flags, isReply, sequence } = segment;
  // RFC 9293 section 3.10.7.3: a refusal has no number of its own yet, but that of the SYN.
  if (isReply && (life & STATE_MASK) === OPENING) return (flags & ACK) !== 0 && acknowledges(flows, at, other, life, segment) ? RESETS : 0;
  if (!isPlausible(flows, at, other, life, segment, sequence, sequence)) return 0;
  // A client's is exact where its server has acknowledged to; a server's as far as it has sent.
  const exact = isReply || other < 0 ? endOf(flows, at, life, isReply) : swap32(flows[other + Flow.ACKNOWLEDGED]);
  return ((sequence - exact) | 0) > 0 ? RESETS | BEYOND : RESETS;
}

function finishes(flows: Int32Array, at: number, other: number, life: number, segment: Segment): number {
  const { flags, sequence, payload, isReply } = segment;
  if ((flags & FIN) === 0) return 0;
  if (isPlausible(flows, at, other, life, segment, sequence, sequence + payload)) return FINISHES | BELONGS;
  if ((life & STATE_MASK) < ESTABLISHED || (life & (isReply ? FIN_SERVER : FIN_CLIENT)) !== 0) return 0;
  return isNear(sequence - endOf(flows, at, life, isReply), WAITS_WITHIN) ? WAITS : 0;
}

/** Of the FIN that waits for this segment: its number is acknowledged, or (direct server return) all before it has passed. */
function weighWaiting(
  at: number,
  other: number,
  life: number,
  { pendingFins, isReply, flags, sequence, payload, acknowledgment, now }: Segment,
): number {
  const waiting = life & (isReply || other < 0 ? WAITS_CLIENT : WAITS_SERVER);
  if (waiting === 0 || (flags & (ACK | SYN | RST)) !== ACK) return 0;
  const place = pendingFins.find(other < 0 ? at : other, now);
  if (place < 0) return GIVES_UP;
  const number = pendingFins.number(place);
  const missing = other < 0 ? number - pendingFins.payload(place) - sequence - payload : number + 1 - acknowledgment;
  return (missing | 0) === 0 ? BEARS_OUT | BELONGS : 0;
}

/** Of a connection that was reset: nobody sends on it any more but whoever never sent that reset. */
function weighAfterReset(flows: Int32Array, at: number, other: number, life: number, segment: Segment): number {
  const { flags, now, isReply, payload, acknowledgment } = segment;
  if ((life & COUNTED) === 0 || flags & FIN) return 0;
  // The server testifies against any reset of its client's, the client against one of the server's that was odd. What was merely on its
  // way says something new, or is answered by a reset.
  const isAnswer = other >= 0 && payload === 0 && (isReply ? (life & RESET_BY_SERVER) === 0 : (life & ODD) === ODD);
  if (isAnswer && acknowledgment === swap32(flows[at + Flow.ACKNOWLEDGED])) return CHALLENGES;
  const isUnderWay = idleOf(flows, at, now) < UNDER_WAY_MS || (other >= 0 && idleOf(flows, other, now) < UNDER_WAY_MS);
  return isUnderWay ? 0 : HEARD;
}

/** A FIN was none of the client's if the server acknowledges more than that. A server's FIN is not to be undone by what its client says. */
function weighAfterFin(flows: Int32Array, at: number, other: number, life: number, segment: Segment): number {
  const { isReply, sequence, acknowledgment, payload } = segment;
  if (other < 0) {
    const isBeyond = payload > 0 && (life & FIN_CLIENT) !== 0 && isWithin(sequence + payload - flows[at + Flow.ORIGIN] - 1);
    return isBeyond ? REVIVES : 0;
  }
  if (!isReply || (life & FIN_CLIENT) === 0) return 0;
  return isWithin(acknowledgment - flows[other + Flow.ORIGIN] - 2) ? REVIVES : 0;
}

/** Whether a FIN or RST may come from the side whose flow is at `at`: its payload, if any, begins at `start`, it itself has the number `end`. */
function isPlausible(flows: Int32Array, at: number, other: number, life: number, segment: Segment, start: number, end: number): boolean {
  const { isReply, now } = segment;
  const next = endOf(flows, at, life, isReply);
  const last = isActive(flows, at, other, now) ? next + LOST : next;
  if (isWithin(end - unacknowledged(flows, at, other, next, isReply)) && ((last - start) | 0) >= 0) return true;
  // What a server has sent twice is counted for good: where that is more than a window, what its client has tells where it is.
  return isReply && other >= 0 && isDrifted(flows, other, next) && isWithin(end - swap32(flows[other + Flow.ACKNOWLEDGED]));
}

/** Whether a server, by what it has sent, is nowhere near what its client acknowledges: one of the two is not to be believed. */
function isDrifted(flows: Int32Array, other: number, next: number): boolean {
  return !isWithin(next - swap32(flows[other + Flow.ACKNOWLEDGED]));
}

/** The first number of a side that the other one may not have acknowledged. */
function unacknowledged(flows: Int32Array, at: number, other: number, next: number, isReply: boolean): number {
  const sent = bytesOf(flows, at) >>> 0;
  if (other < 0) return next - Math.min(sent, Math.max(SENT_TWICE, sent >>> 3));
  const acknowledged = swap32(flows[other + Flow.ACKNOWLEDGED]);
  // A client that acknowledges what was never sent does not keep its server from ending the connection.
  return isReply && isDrifted(flows, other, next) ? next - Math.min(sent, IN_FLIGHT) : acknowledged;
}

function isActive(flows: Int32Array, at: number, other: number, now: number): boolean {
  return idleOf(flows, at, now) < ACTIVE_MS || (other >= 0 && idleOf(flows, other, now) < ACTIVE_MS);
}

/** Whether the side whose flow is at `at` may have heard as much of the other side as it says. */
function acknowledges(flows: Int32Array, at: number, other: number, life: number, { isReply, acknowledgment }: Segment): boolean {
  const heard = swap32(flows[at + Flow.ACKNOWLEDGED]);
  return isWithin(acknowledgment - heard) && isWithin(endOf(flows, other, life, !isReply) - acknowledgment);
}

/** The number that a side sends next, at most. */
function endOf(flows: Int32Array, at: number, life: number, isServer: boolean): number {
  const hasFinished = (life & (isServer ? FIN_SERVER : FIN_CLIENT)) !== 0;
  return flows[at + Flow.ORIGIN] + (hasFinished ? 1 : bytesOf(flows, at));
}

/** Whether the side whose flow is at `at` may have sent that number already. */
function isSent(flows: Int32Array, at: number, sequence: number): boolean {
  return isWithin(sequence - flows[at + Flow.ORIGIN]) && isWithin(flows[at + Flow.ORIGIN] + bytesOf(flows, at) - sequence);
}

function isWithin(distance: number): boolean {
  return isNear(distance, IN_FLIGHT);
}

function isNear(distance: number, most: number): boolean {
  return (distance | 0) >= 0 && (distance | 0) <= most;
}
