/**
 * What packets of wrapped flows are wrapped in beside what their next hop says: the UDP port that they leave from and, where the scheduler goes by rows
 * (GLB's table), the hops to try after the first one. Rows pin nobody: when a table changes, a flow goes where its row leads by now, as any other
 * balancer with that table has it, from its next packet on. So what stands in the flow is a copy, with a tag that says of when. Whose a TCP connection
 * is does not change with that: the server that has it is asked as long as it is in the row (second chance), and keeps it.
 *
 * That takes GUE: in IP in IP there is no list of hops, and a flow stays where it was opened.
 */
import { glbRow, hopsOf, primaryOf, secondaryOf } from '../balance/index.ts';
import * as T from '../flow/life.ts';
import type { Records } from '../flow/records.ts';
import type { FlowTable } from '../flow/table.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import { destinationPort, sourcePort } from '../packet/address.ts';
import { GUE, MOST_HOPS, outerPort } from '../packet/tunnel.ts';
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
    const rows = rowsOf(frontend);
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
    // Its frontend goes by a table no more, or in no list of hops: it stays where it is.
    if (rowsOf(frontend) === undefined) {
      flows[at + DELTAS] &= (1 << TAG_SHIFT) - 1;
      return;
    }
    const position = this.#positionOf(at, frontend);
    // The kernel's fast path goes by the flow again as soon as it has the new tag, which is written last.
    flows[at + Flow.NEXT_HOP] = frontend.hops[wayOf(frontend, position)];
    this.write(at, frontend);
    const now = (frontend.index << 16) | frontend.servers[position].index;
    if (now !== owner && !this.#mayKeep(at, frontend, owner & 0xffff)) this.#connections.move(record, now);
  }

  /** Of the first server of the row, among the frontend's. */
  #positionOf(at: number, { scheduler }: Frontend): number {
    const flows = this.#flows;
    const [source, destination, ports] = [flows[at + SOURCE], flows[at + DESTINATION], flows[at + PORTS]];
    return scheduler!.pick(source, sourcePort(ports), destination, destinationPort(ports));
  }

  /**
   * Whether a server, by index, keeps the connection of the flow at word `at`, whose row is written: it is asked when those before it do not know
   * the segment. Datagrams have no connection that they would not know.
   */
  #mayKeep(at: number, { servers, positions }: Frontend, server: number): boolean {
    const flows = this.#flows;
    const position = positions.get(server);
    if (position === undefined || (this.#lifeOf(at) & T.DATAGRAM) !== 0) return false;
    const count = (flows[at + DELTAS] >>> HOPS_SHIFT) & MOST_HOPS;
    for (let hop = 0; hop < count; hop++) if (flows[at + NEW_SOURCE + hop] === servers[position].address) return true;
    return false;
  }

  #lifeOf(at: number): number {
    return this.#records.words[(this.#flows[at + Flow.CONNECTION] << C.RECORD_SHIFT) + C.LIFE];
  }

  /**
   * Whether a SYN by the flow at word `at` is another server's than its connection: one of which nobody has answered a SYN, or that has ended, and the
   * row begins with another one by now, which takes every SYN.
   */
  isPassed(at: number): boolean {
    const flows = this.#flows;
    if ((flows[at + Flow.STATE] & Flow.WRAPPED) === 0 || flows[at + DELTAS] >>> TAG_SHIFT === 0) return false;
    const state = this.#lifeOf(at) & T.STATE_MASK;
    if (state !== T.OPENING && state < T.TIME_WAIT) return false;
    const owner = this.#records.words[(flows[at + Flow.CONNECTION] << C.RECORD_SHIFT) + C.OWNER];
    const frontend = this.#services.frontendOf(owner >>> 16);
    if (frontend === undefined || rowsOf(frontend) === undefined) return false;
    return frontend.servers[this.#positionOf(at, frontend)].index !== (owner & 0xffff);
  }

  /** The same of any flow, where it is one that has not yet. */
  renew(at: number): void {
    const flows = this.#flows;
    if ((flows[at + Flow.STATE] & Flow.WRAPPED) === 0) return;
    const tag = flows[at + DELTAS] >>> TAG_SHIFT;
    if (tag !== 0 && tag !== this.#services.tables[0]) this.follow(at);
  }
}

/** The table that packets to a frontend's servers go by, where they have a list of hops. */
function rowsOf({ scheduler, mode }: Frontend) {
  return mode.tunnel === GUE ? scheduler?.rows : undefined;
}
