/** Which connections are meant. */
import * as T from '../flow/life.ts';
import * as Flow from '../layout/flow.ts';
import { destinationPort, sourcePort } from '../packet/address.ts';

/** Which are meant: those that fit all that is given. */
export interface FlowQuery {
  /** Their indexes. */
  readonly frontends?: ReadonlySet<number> | undefined;
  readonly servers?: ReadonlySet<number> | undefined;
  readonly client?: ClientQuery | undefined;
  /** Those that have ended and are still remembered, too. */
  readonly ended?: boolean | undefined;
}

/** Addresses whose `mask` is that of `network`, in native order. */
export interface ClientQuery {
  readonly network: number;
  readonly mask: number;
  readonly port: number | undefined;
}

/** Whether that is the client of the connection with that LIFE word whose first flow is at word `at`. */
export function isClientOf({ network, mask, port }: ClientQuery, flows: Int32Array, at: number, life: number): boolean {
  const isAnswer = (life & T.ANSWER_ONLY) !== 0;
  const address = flows[at + (isAnswer ? Flow.NEW_DESTINATION : Flow.SOURCE)];
  const own = isAnswer ? destinationPort(flows[at + Flow.NEW_PORTS]) : sourcePort(flows[at + Flow.PORTS]);
  return (port === undefined || port === own) && (address & mask) === network;
}
