/** Payloads as a file spells them: text, or any bytes in hexadecimal. */

/** What stands before bytes in hexadecimal, two digits each. */
const HEX = 'hex:';
/** Of a datagram that is not cut on any Ethernet: 1500 less the headers of IPv4 and UDP. */
const MOST = 1472;

/** What may stand there, as messages and the reference say it. */
export const PAYLOAD = `text, or bytes as "hex:00ff", of at most ${MOST} bytes`;

/** What is wrong with `text` as a payload, or undefined. */
export function payloadProblem(text: string): string | undefined {
  if (text.startsWith(HEX) && !/^(?:[\da-f]{2})*$/i.test(text.slice(HEX.length))) return 'is not bytes of two hexadecimal digits each';
  const { length } = payloadOf(text);
  return length > MOST ? `has ${length} bytes` : undefined;
}

/** The bytes of a text that has no problem: text in UTF-8. */
export function payloadOf(text: string): Buffer {
  return text.startsWith(HEX) ? Buffer.from(text.slice(HEX.length), 'hex') : Buffer.from(text);
}
