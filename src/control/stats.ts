/** GET /stats: Convey's document, with what only lb4 knows under `lb4`. */
import type { Counters, Engine } from '../engine/engine.ts';

/** The names behind the engine's numbers. */
export interface StatsView {
  readonly frontends: readonly { readonly name: string; readonly index: number }[];
  readonly backends: readonly {
    readonly name: string;
    /** `up` is undefined until the first check has spoken. */
    readonly servers: readonly { readonly address: string; readonly index: number; readonly up: boolean | undefined }[];
  }[];
}

type Source = Pick<Engine, 'frontend' | 'server' | 'verdicts' | 'gauges'>;

type Row = Pick<Counters, 'total' | 'current' | 'bytesTx' | 'bytesRx'>;

const NOTHING: Row = { total: 0, current: 0, bytesTx: 0, bytesRx: 0 };

/** The document, ready for JSON. tx is client → server, in bytes of TCP payload. */
export function statsDocument(engine: Source, view: StatsView) {
  const frontends = view.frontends.map(({ name, index }) => [name, engine.frontend(index)] as const);
  const all = frontends.map(([, counters]) => counters).reduce<Row>(add, NOTHING);
  const { received, dropped, transmitFailed, flows } = engine.gauges();
  return {
    total_connections: all.total,
    current_connections: all.current,
    total_bytes_tx: all.bytesTx,
    total_bytes_rx: all.bytesRx,
    backends: Object.fromEntries(
      view.backends.map(({ name, servers }) => [
        name,
        {
          ...row(servers.map(({ index }) => engine.server(index)).reduce<Row>(add, NOTHING)),
          servers: Object.fromEntries(servers.flatMap(({ address, up }) => (up === undefined ? [] : [[address, up]]))),
        },
      ]),
    ),
    frontends: Object.fromEntries(frontends.map(([name, counters]) => [name, row(counters)])),
    lb4: {
      verdicts: engine.verdicts(),
      frames: { received, dropped, transmit_failed: transmitFailed },
      flows,
      servers: Object.fromEntries(
        view.backends.map(({ name, servers }) => [
          name,
          Object.fromEntries(servers.map(({ address, index }) => [address, row(engine.server(index))])),
        ]),
      ),
    },
  };
}

function row({ total, current, bytesTx, bytesRx }: Row) {
  return { total_connections: total, current_connections: current, bytes_tx: bytesTx, bytes_rx: bytesRx };
}

function add(a: Row, b: Row): Row {
  return { total: a.total + b.total, current: a.current + b.current, bytesTx: a.bytesTx + b.bytesTx, bytesRx: a.bytesRx + b.bytesRx };
}
