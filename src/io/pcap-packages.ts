/**
 * The npm packages that the pcap driver is made of, both optional: `cap` (libpcap) captures and sends frames, `raw-socket` sends where
 * the kernel finds the way. Neither loads in a worker thread, and both use the event loop of the process's main thread.
 */
import { createRequire } from 'node:module';
import { IS_CHECKOUT, PACKAGE } from '../own-files.ts';

const PACKAGES = ['cap', 'raw-socket'] as const;

/** An open capture of one interface. Every frame is copied into the buffer given to `open`, then `packet` is emitted, once a frame. */
export interface Capture {
  /**
   * @param device the interface's name
   * @param filter as in pcap-filter(7)
   * @param bufferBytes room in the kernel
   * @param buffer frames come here. The capture keeps the bare address: whoever lets go of the buffer ends the process
   * @returns "ETHERNET", "RAW", or what else the link has
   */
  open(device: string, filter: string, bufferBytes: number, buffer: Buffer): string;
  on(event: 'packet', listener: (bytes: number, isTruncated: boolean) => void): unknown;
  /** Sends the first `bytes` of `frame`, from the Ethernet header on. Throws an Error with libpcap's text. */
  send(frame: Buffer, bytes: number): void;
  close(): void;
}

/** raw(7) with IP_HDRINCL. Packets queue up in JavaScript, and leave one a turn of the event loop. */
export interface RawSocket {
  send(packet: Buffer, offset: number, bytes: number, address: string, sent: (error: Error | null) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  close(): void;
}

interface Packages {
  readonly Cap: new () => Capture;
  readonly openRawSocket: () => RawSocket;
}

/** IPPROTO_RAW: implies IP_HDRINCL, and receives nothing (raw(7)). */
const IPPROTO_RAW = 255;

const require = createRequire(import.meta.url);

/** Throws an Error with the code ERR_PCAP_PACKAGES that says what to install where one is missing. One that is there need not load. */
export function assertPackages(): void {
  const missing = PACKAGES.filter((name) => {
    try {
      require.resolve(name);
      return false;
    } catch {
      return true;
    }
  });
  if (missing.length > 0)
    throw refusal(`io = "pcap" needs the npm packages ${PACKAGES.join(' and ')}; not installed: ${missing.join(', ')}`);
}

/** Into a checkout; beside an installed lb4, where a new one does not take them away, and Node looks after its own directory. */
function install(): string {
  const packages = `apt-get install libpcap-dev g++ make && npm install`;
  const [, prefix] = /^(.*)\/lib\/(?:node_modules\/)?lb4$/.exec(PACKAGE) ?? [];
  if (IS_CHECKOUT || prefix === undefined) return `In lb4's directory: ${packages} ${PACKAGES.join(' ')}`;
  return `${packages} -g --prefix=${prefix} ${PACKAGES.join(' ')}`;
}

/** Loads both. Throws an Error with the code ERR_PCAP_PACKAGES that says what to install. */
export function loadPackages(): Packages {
  const { Cap } = load('cap') as { readonly Cap: new () => Capture };
  const { createSocket } = load('raw-socket') as { readonly createSocket: (options: { readonly protocol: number }) => RawSocket };
  return { Cap, openRawSocket: () => createSocket({ protocol: IPPROTO_RAW }) };
}

function load(name: (typeof PACKAGES)[number]): unknown {
  try {
    return require(name) as unknown;
  } catch (cause) {
    const [reason] = String(cause instanceof Error ? cause.message : cause).split('\n');
    throw refusal(`io = "pcap" needs the npm package ${name}, which does not load (${reason})`, cause);
  }
}

function refusal(what: string, cause?: unknown): Error {
  return Object.assign(new Error(`${what}. ${install()}`, { cause }), { code: 'ERR_PCAP_PACKAGES' });
}
