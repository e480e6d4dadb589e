/** A connection, or the flow of a client's datagrams, for people. */
export interface FlowRow {
  readonly protocol: string;
  /** "IP:PORT", of a ping without a port. */
  readonly client: string;
  /** As the file names it; null: it has gone. */
  readonly frontend: string | null;
  /** Where the client sends to. */
  readonly to: string;
  /** BACKEND/SERVER; null: it has gone, or none was chosen yet. */
  readonly server: string | null;
  /** Where the server is reached, and from which address it sees the client; null: nowhere yet, or nobody knows. */
  readonly via: string | null;
  readonly address: string | null;
  readonly state: string;
  readonly bytes_tx: number;
  readonly bytes_rx: number;
  /** Seconds since a packet of it was seen. */
  readonly idle: number;
}
