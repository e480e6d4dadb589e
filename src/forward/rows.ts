/**
 * What packets of wrapped flows are wrapped in beside what their next hop says: the UDP port that they leave from and, where the scheduler goes by rows
 * (GLB's table), the hops to try after the first one. Rows pin nobody: when a table changes, a flow goes where its row leads by now, as any other
 * balancer with that table has it, from its next packet on. So what stands in the flow is a copy, with a tag that says of when.
 */
import { glbRow, hopsOf, primaryOf, secondaryOf } from '../balance/index.ts';
import type { Records } from '../flow/records.ts';
import type { FlowTable } from '../flow/table.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import { destinationPort, sourcePort } from '../packet/address.ts';
import { outerPort } from '../packet/tunnel.ts';
import type { Connections } from './connections.ts';
import { type Frontend, type Services, wayOf } from './services.ts';

export interface RowsParts {
  readonly table: FlowTable;
  readonly records: Records;
  readonly services: Services;
  readonly connections: Connections;
}

/** The golden ratio, in parts of 2^32. */
const SCATTER = 0x9e3779b1;
const { SOURCE, DESTINATION, PORTS, NEW_SOURCE, NEW_DESTINATION, NEW_PORTS, DELTAS, TAG_SHIFT, HOPS_SHIFT } = Flow;

export class Rows {
  readonly #flows: Int32Array;
  readonly #records: Records;
  readonly #services: Services;
  readonly #connections: Connections;

  constructor({ table, records, services, connections }: RowsParts) {
    this.#flows = table.words;
    this.#records = records;
    this.#services = services;
    this.#connections = connections;
  }

  /** Of the flow at word `at`, whose key and rewrite are there. */
  write(at: number, frontend: Frontend): void {
    const flows = this.#flows;
    const [source, ports] = [flows[at + SOURCE], flows[at + PORTS]];
    const rows = frontend.scheduler?.rows;
    if (rows === undefined) {
      // Whose addresses differ in any byte, differ in the bits that become a port.
      flows[at + DELTAS] = outerPort(Math.imul(source, SCATTER) >>> 16, sourcePort(ports));
      return;
    }
    const hash = rows.hash(source, flows[at + DESTINATION], ports);
    const count = this.#writeHops(at, frontend, hash);
    flows[at + DELTAS] = outerPort(hash, sourcePort(ports)) | (count << HOPS_SHIFT) | (this.#services.tables[0] << TAG_SHIFT);
  }

  /** The further hops: the row's second server, and both of the other row while fields are being changed. Returns how many. */
  #writeHops(at: number, { scheduler, servers }: Frontend, hash: number): number {
    const flows = this.#flows;
    const { table, altHash } = scheduler!.rows!;
    const hops = hopsOf(table, glbRow(hash));
    // A server that is alone is both.
    if (primaryOf(hops) === secondaryOf(hops)) return 0;
    flows[at + NEW_SOURCE] = servers[secondaryOf(hops)].address;
    if (altHash === undefined) return 1;
    const others = hopsOf(table, glbRow(altHash(flows[at + SOURCE], flows[at + DESTINATION], flows[at + PORTS])));
    flows[at + NEW_DESTINATION] = servers[primaryOf(others)].address;
    flows[at + NEW_PORTS] = servers[secondaryOf(others)].address;
    return 3;
  }

  /** Has the wrapped flow at word `at`, which follows a table, go by it as it is now. Its bytes stay with those who had them. */
  follow(at: number): void {
    const flows = this.#flows;
    const record = flows[at + Flow.CONNECTION];
    const owner = this.#records.words[(record << C.RECORD_SHIFT) + C.OWNER];
    const frontend = this.#services.frontendOf(owner >>> 16);
    if (frontend?.scheduler === undefined) return;
    // Its frontend goes by a table no more, or wraps nothing: it stays where it is.
    if (frontend.scheduler.rows === undefined || frontend.mode.tunnel === undefined) {
      flows[at + DELTAS] &= (1 << TAG_SHIFT) - 1;
      return;
    }
    const [source, destination, ports] = [flows[at + SOURCE], flows[at + DESTINATION], flows[at + PORTS]];
    const position = frontend.scheduler.pick(source, sourcePort(ports), destination, destinationPort(ports));
    this.write(at, frontend);
    flows[at + Flow.NEXT_HOP] = frontend.hops[wayOf(frontend, position)];
    const now = (frontend.index << 16) | frontend.servers[position].index;
    if (now !== owner) this.#connections.move(record, now);
  }

  /** The same of any flow, where it is one that has not yet. */
  renew(at: number): void {
    const flows = this.#flows;
    if ((flows[at + Flow.STATE] & Flow.WRAPPED) === 0) return;
    const tag = flows[at + DELTAS] >>> TAG_SHIFT;
    if (tag !== 0 && tag !== this.#services.tables[0]) this.follow(at);
  }
}
