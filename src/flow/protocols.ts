/** The protocols that lb4 carries: a new one is a file and a line here. */
import { echo } from './echo.ts';
import type { Protocol } from './protocol.ts';
import { tcp } from './tcp.ts';
import { udp } from './udp.ts';

/** First the one that most packets are of (forward/parse.ts). */
export const protocols: readonly [Protocol, ...Protocol[]] = [tcp, udp, echo];

/** By the number in the IP header; undefined: lb4 does not carry it. */
export const byNumber: readonly (Protocol | undefined)[] = Array.from({ length: 256 }, (_, number) =>
  protocols.find((protocol) => protocol.number === number),
);
