/**
 * The end-to-end suite, test/netns/end-to-end-*.test.ts, is one for all that moves packets: each driver is a row here, and `-t pcap` runs
 * its part alone.
 */
import { createRequire } from 'node:module';
import { describe } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { Topology } from './topology.ts';

export interface Driver {
  readonly name: string;
  /** Lines of `[passthrough]` that choose it. */
  readonly lines: string;
  /** How much of what others carry it is given to carry. */
  readonly share: number;
  /** Its cables must be as between NICs. */
  readonly likesHardware?: boolean;
  /** What arrives in fragments is put together. */
  readonly joinsFragments: boolean;
  /** Why it cannot be tried on this machine. */
  readonly obstacle?: string | undefined;
}

const DRIVERS: readonly Driver[] = [
  { name: 'ring', lines: 'io = "ring"', share: 1, joinsFragments: true },
  { name: 'tc', lines: 'fast_path = "tc"', share: 1, joinsFragments: true, obstacle: fastPathObstacle() },
  { name: 'xdp', lines: 'fast_path = "xdp"', share: 1, likesHardware: true, joinsFragments: true, obstacle: fastPathObstacle() },
  { name: 'pcap', lines: 'io = "pcap"', share: 0.1, joinsFragments: false, obstacle: pcapObstacle() },
];

/** `[passthrough]` with that driver, and more lines. */
export function passthroughBy({ lines }: Driver, ...more: string[]): string {
  return ['[passthrough]', lines, ...more, ''].join('\n');
}

/** Makes the cables of a laboratory such as the driver is for. Returns it. */
export function wired<L>(driver: Driver, lab: L): L {
  if (driver.likesHardware === true && lab instanceof Topology) lab.likeHardware();
  return lab;
}

/** Tests that hold with every driver. */
export function endToEnd(body: (driver: Driver) => void): void {
  for (const driver of DRIVERS) {
    const why = driver.obstacle === undefined ? '' : ` (${driver.obstacle})`;
    describe.skipIf(driver.obstacle !== undefined)(`${driver.name}${why}`, () => body(driver));
  }
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
