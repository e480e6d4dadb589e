/** What a running lb4 carries a second, from two looks at it. */
import type { Listing } from '../control/listing.ts';

type Totals = Pick<Listing['backends'][number], 'current' | 'total' | 'bytes_tx' | 'bytes_rx'>;

/** Totals become what was added in between, a second. */
export function ratesBetween(before: Listing, after: Listing, seconds: number): Listing {
  const rate = (last: number | undefined, now: number) => since(last, now) / seconds;
  const rates = <Row extends Totals>(row: Row, last: Totals | undefined): Row => ({
    ...row,
    total: rate(last?.total, row.total),
    bytes_tx: rate(last?.bytes_tx, row.bytes_tx),
    bytes_rx: rate(last?.bytes_rx, row.bytes_rx),
  });
  const frontends = new Map(before.frontends.map((row) => [serviceKey(row), row]));
  const backends = new Map(before.backends.map((row) => [serviceKey(row), row]));
  const servers = new Map(before.backends.flatMap((row) => row.servers.map((server) => [serverKey(row, server), server])));
  const refused = before.packets?.refused ?? {};
  return {
    ...after,
    totals: rates(after.totals, before.totals),
    packets: after.packets && {
      received: rate(before.packets?.received, after.packets.received),
      refused: Object.fromEntries(Object.entries(after.packets.refused).map(([name, count]) => [name, rate(refused[name], count)])),
    },
    frontends: after.frontends.map((row) => rates(row, frontends.get(serviceKey(row)))),
    backends: after.backends.map((row) => ({
      ...rates(row, backends.get(serviceKey(row))),
      servers: row.servers.map((server) => rates(server, servers.get(serverKey(row, server)))),
    })),
  };
}

interface Service {
  readonly name: string;
  readonly protocol: string;
}

function serviceKey({ name, protocol }: Service): string {
  return JSON.stringify([name, protocol]);
}

/** Of a server by one of its protocols, apart from all others. */
export function serverKey({ name, protocol }: Service, server: { readonly name: string; readonly address: string }): string {
  return JSON.stringify([name, protocol, server.name, server.address]);
}

/** What begins to count in between has counted from 0. */
function since(before = 0, after: number): number {
  return Math.max(0, after - before);
}
