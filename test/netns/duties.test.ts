/**
 * A router's duties: whatever the kernel's own NAT delivers in lb4's place, lb4 delivers. Each row is one situation, tried with
 * both; what lb4 does not do is a limit that README and `lb4 doctor` name, and the row says so in `limit`.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Duties, type Forwarder } from '../lab/duties.ts';
import { ACK, PSH } from '../lab/wire.ts';

interface Situation {
  readonly situation: string;
  /** Throws where the packets do not arrive as they should. */
  readonly delivers: (lab: Duties) => Promise<void>;
  /** The kernel delivers, lb4 does not: the sentence of README's limits that says so. */
  readonly limit?: string;
  /** What this kernel must have. */
  readonly needs?: (lab: Duties) => boolean;
}

let nextId = 100;

const situations: readonly Situation[] = [
  {
    situation: 'a packet without DF, too large for the link to its server, comes in fragments',
    delivers: async (lab) => {
      for (const [to, mtu] of [
        ['rawNarrow', 1000],
        ['rawTiny', 576],
      ] as const) {
        const { client, server, toServer } = await lab.open('rawClient', to);
        const payload = Buffer.from(Array.from({ length: 1401 }, (_, i) => i * 7));
        const id = nextId++;
        client.send({ ...toServer, flags: ACK | PSH, payload, id, tos: 0x2e });
        const { packet, fragments } = await server.expectWhole('the packet', id);
        expect(packet).toMatchObject({ payload, flags: ACK | PSH, tos: 0x2e, ttl: 63, checksumsRight: true, dontFragment: false });
        for (const fragment of fragments) {
          expect(fragment.totalLength).toBeLessThanOrEqual(mtu);
          expect(fragment).toMatchObject({ checksumsRight: true, tos: 0x2e, ttl: 63 });
        }
        expect(fragments.length).toBeGreaterThan(1);
      }
    },
  },
];

describe.each<Forwarder>(['kernel NAT', 'lb4'])('%s', (forwarder) => {
  let lab: Duties;

  beforeAll(async () => {
    lab = await Duties.start(forwarder);
  });

  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
  });

  test.each(situations)('$situation', async ({ delivers, limit, needs }) => {
    if (needs?.(lab) === false) return;
    if (forwarder === 'lb4' && limit !== undefined) await expect(delivers(lab), limit).rejects.toThrow();
    else await delivers(lab);
  });
});
