/**
 * Where servers see their clients, two connections of one client's port (to two VIPs, or to a VIP and to the server itself) have the same
 * replies when they meet at one server: server:sp → client:cp. So the replies' key is looked up before a connection is written down; where
 * it is taken, the connection goes to another server if the scheduler may, else it leaves from another port.
 *
 * The same is done where a reply would come to another worker than the client's packets do (packet/steering.ts): a frontend that listens on a
 * port of the pools has one worker for all its clients, and the hash of an address that servers see in place of a client's own is another one.
 */
import type { FlowTable } from '../flow/table.ts';
import { live, NONE } from '../layout/flow.ts';
import { portsWord } from '../packet/address.ts';
import { ICMP } from '../packet/fields.ts';
import { workerOfClient } from '../packet/steering.ts';
import type { Passing } from './passing.ts';

/** Which of how many workers asks. */
export interface Place {
  readonly worker: number;
  readonly workers: number;
  /** steeringKey() */
  readonly key: number;
}

/** What servers see of a client, and where it goes; ports in host order, addresses in native order. */
interface Seen {
  readonly address: number;
  readonly serverAddress: number;
  readonly serverPort: number;
}

/** Ports that are tried, and among how many times as many those of this worker are looked for. */
const TRIES = 16;
const FIRST = 1024;
const LAST = 65_535;

export class Clash {
  readonly #table: FlowTable;
  readonly #passing: Passing;
  readonly #place: Place;

  constructor(table: FlowTable, passing: Passing, place: Place) {
    this.#table = table;
    this.#passing = passing;
    this.#place = place;
  }

  /**
   * The port that a client may have towards a server: its own one, or with `mayMove` another; -1 where there is none.
   * @param protocol its number
   */
  portFor(seen: Seen, own: number, protocol: number, mayMove: boolean, now: number): number {
    if (this.#isFree(seen, own, protocol, now)) return own;
    if (!mayMove) return -1;
    let tries = TRIES;
    for (let looks = TRIES * this.#place.workers * 2; looks > 0 && tries > 0; looks--) {
      const port = FIRST + Math.floor(Math.random() * (LAST - FIRST + 1));
      if (!this.isHere(seen.address, port, protocol)) continue;
      if (!this.#isTaken(seen, port, protocol, now)) return port;
      tries--;
    }
    return -1;
  }

  #isFree(seen: Seen, port: number, protocol: number, now: number): boolean {
    return this.isHere(seen.address, port, protocol) && !this.#isTaken(seen, port, protocol, now);
  }

  /** Whether replies to that port of a client, as servers see it, come to this worker: whatever the server. */
  isHere(client: number, port: number, protocol: number): boolean {
    const { worker, workers, key } = this.#place;
    // All pings are one worker's (packet/steering.ts), who asks here.
    return workers === 1 || protocol === ICMP || workerOfClient(client, port, key, workers) === worker;
  }

  #isTaken({ address, serverAddress, serverPort }: Seen, port: number, protocol: number, now: number): boolean {
    const ports = portsWord(serverPort, port);
    return (
      this.#table.find(serverAddress, address, ports, live(protocol)) !== NONE || this.#passing.knows(serverAddress, address, ports, now)
    );
  }
}
