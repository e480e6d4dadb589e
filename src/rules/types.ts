import type { FanOutBalance, TransportProtocol } from '../config/model.ts';
import type { PacketMode } from '../config/modes.ts';

/** The protocol of pings, which has no ports, by its name. */
export const PING = 'icmp';

/** What the firewall rules of a balancer are made of. Addresses are dotted IPv4, ports 1–65535. */
export interface RulesInput {
  mode: PacketMode;
  /** What clients connect to; of pings without a port. */
  frontends: { address: string; port: number; protocol: TransportProtocol }[];
  /** Whose answers come back to which of our addresses, or go to `clients`, through this host; used only where answers pass us. */
  returns: { server: string; serverPort: number; source: string; protocol: TransportProtocol }[];
  /** Addresses whose pings lb4 answers itself. */
  echoes?: readonly string[] | undefined;
  /** Left out: raw. */
  form?: Form | undefined;
}

/**
 * Where frames are dropped. `raw`: in PREROUTING of the raw table, the cheapest. `input`: in INPUT of the mangle table, passed
 * untracked by the raw one, where frames of a bridge meet iptables before the bridge hands them up.
 */
export interface Form {
  readonly name: 'raw' | 'input';
  /** For people: why this one is right on this host, one line. */
  readonly why: string;
}

/** In place of an address of ours that servers answer to: whoever has called, by nat = "destination". */
export const CLIENTS = 'clients';

/** What a server in DSR mode needs. Addresses are dotted IPv4, ports 1–65535. */
export interface ServerRulesInput {
  /** The server's own address. */
  server: string;
  /** `dsr = "nat"`: what leaves `server`:`port` gets the address `vip` as its source. */
  rewrites: { port: number; vip: string; protocol: TransportProtocol }[];
  /** `dsr = "l2"`: addresses that stand on the server's loopback. */
  loopback: string[];
  /** `dsr = "gue"` and `"ipip"`: addresses that stand there as well, and packets for which come inside of others. */
  tunnels?: readonly TunnelInput[] | undefined;
  /** `dsr = "gue"`: servers that this one may send packets on to; undefined: whomever a balancer names. */
  hops?: readonly string[] | undefined;
  /** Undefined: the script finds out what works on the server. */
  dialect?: Dialect | undefined;
  /** The same of unwrapping. */
  unwrap?: Unwrap | undefined;
}

export interface TunnelInput {
  /** Dotted IPv4, or IPv6. */
  readonly vip: string;
  /** UDP port of GUE; 0: IP in IP. */
  readonly port: number;
  /** Bytes that the tunnel adds to a packet. */
  readonly overhead: number;
}

/** How a server takes packets out of GUE: a BPF program, which gives a second chance, or the kernel's fou. */
export const UNWRAPS = ['bpf', 'fou'] as const;
export type Unwrap = (typeof UNWRAPS)[number];

/** What a server that answers clients through the balancer needs (nat = "destination"). Addresses are dotted IPv4, ports 1–65535. */
export interface ReturnRulesInput {
  /** The server's own address. */
  server: string;
  /** By which it reaches the balancer; undefined: whoever runs the script says so. */
  gateway: string | undefined;
  /** What its answers leave from; a protocol without ports has port 0. */
  ports: { port: number; protocol: TransportProtocol }[];
}

/** Ways to rewrite a source address. `iptables` cannot, and its script says so. */
export const DIALECTS = ['tc', 'nft', 'iptables'] as const;
export type Dialect = (typeof DIALECTS)[number];

export type RulesAction = 'install' | 'remove' | 'status';

/** What a port is spread over processes of this host by. */
export interface FanOutInput {
  /** Without an address: every one of this host's, of that family or both. */
  readonly listen: { readonly ip?: string | undefined; readonly family?: 4 | 6 | undefined; readonly port: number };
  /** In the file's order. */
  readonly ports: readonly { readonly port: number; readonly weight: number; readonly isUp: boolean }[];
  readonly protocol: string;
  /** `source`: nft alone. */
  readonly balance: FanOutBalance;
  /** For programs of this host as well. */
  readonly local: boolean;
}

/** Rules, each with the chain that it stands in. */
export type FanOutRules = readonly { readonly chain: string; readonly text: string }[];

export const FAN_OUT_DIALECTS = ['nft', 'iptables'] as const;
export type FanOutDialect = (typeof FAN_OUT_DIALECTS)[number];

/**
 * Where a running lb4 checks processes of this host that a port is spread over: an address of the loopback's that nobody else calls, so that rules can let
 * these calls alone, and where only who listens at all addresses answers.
 */
export const CHECK_ADDRESS = '127.76.66.52';
