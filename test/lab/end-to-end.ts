/**
 * The end-to-end suite, test/netns/end-to-end-*.test.ts and, for DSR, dsr.test.ts, is one for all that moves packets: each driver is a row
 * here, and `-t pcap` runs its part alone.
 */
import { createRequire } from 'node:module';
import { describe } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import type { Dsr } from './dsr-topology.ts';
import type { Lab } from './lab.ts';

export interface Driver {
  readonly name: string;
  /** Lines of `[passthrough]` that choose it. */
  readonly lines: string;
  /** How much of what others carry it is given to carry. */
  readonly share: number;
  /** The kernel itself forwards. */
  readonly isFast?: boolean;
  /** Its cables must be as between NICs. */
  readonly likesHardware?: boolean;
  /** What arrives in fragments is put together. */
  readonly joinsFragments: boolean;
  /** Why it cannot be tried on this machine. */
  readonly obstacle?: string | undefined;
}

const FAST = { share: 1, isFast: true, joinsFragments: true, obstacle: fastPathObstacle() };
const RING: Driver = { name: 'ring', lines: 'io = "ring"', share: 1, joinsFragments: true };
const TC: Driver = { ...FAST, name: 'tc', lines: 'fast_path = "tc"' };
const XDP: Driver = { ...FAST, name: 'xdp', lines: 'fast_path = "xdp"', likesHardware: true };
const PCAP: Driver = { name: 'pcap', lines: 'io = "pcap"', share: 0.1, joinsFragments: false, obstacle: pcapObstacle() };

/** The fast path's two hooks have one source, so each is tried with one way of DSR. */
const DSR_ROWS: readonly (readonly [Driver, Dsr])[] = [
  [RING, 'nat'],
  [RING, 'l2'],
  [TC, 'l2'],
  [XDP, 'nat'],
];

/** What wraps packets; the kernel makes room for each kind of tunnel in a way of its own where tc asks it. */
const WRAPPED_ROWS: readonly (readonly [Driver, Dsr])[] = [
  [RING, 'gue'],
  [RING, 'ipip'],
  [{ ...TC, likesHardware: true }, 'gue'],
  [{ ...TC, likesHardware: true }, 'ipip'],
  [XDP, 'gue'],
  [XDP, 'ipip'],
];

/** `[passthrough]` with that driver, and more lines. */
export function passthroughBy({ lines }: Driver, ...more: string[]): string {
  return ['[passthrough]', lines, ...more, ''].join('\n');
}

/** Makes the cables of a laboratory such as the driver is for. Returns it. */
export function wired<L extends Lab>(driver: Driver, lab: L): L {
  if (driver.likesHardware === true) lab.likeHardware();
  return lab;
}

/** Tests that hold with every driver. */
export function endToEnd(body: (driver: Driver) => void): void {
  for (const driver of [RING, TC, XDP, PCAP]) row(driver, driver.name, () => body(driver));
}

/** The same for direct server return. */
export function endToEndDsr(body: (driver: Driver, dsr: Dsr) => void): void {
  for (const [driver, dsr] of DSR_ROWS) row(driver, `${driver.name}, dsr = "${dsr}"`, () => body(driver, dsr));
}

/** The same where packets go inside of others, to servers that unwrap each by a program: it takes what is whole. */
export function endToEndWrapped(body: (driver: Driver, dsr: Dsr) => void): void {
  for (const [driver, dsr] of WRAPPED_ROWS) row(driver, `${driver.name}, dsr = "${dsr}"`, () => body(driver, dsr));
}

function row({ obstacle }: Driver, name: string, body: () => void): void {
  const why = obstacle === undefined ? '' : ` (${obstacle})`;
  describe.skipIf(obstacle !== undefined)(`${name}${why}`, body);
}

/** Why `io = "pcap"` cannot be tried: `make deps-test` builds its packages, and where it cannot, it has said so. */
export function pcapObstacle(): string | undefined {
  const isThere = (name: string) => {
    try {
      return createRequire(import.meta.url)(name) !== undefined;
    } catch {
      return false;
    }
  };
  return ['cap', 'raw-socket'].every(isThere) ? undefined : 'cap and raw-socket are not built: scripts/install-deps.sh test';
}
