/**
 * What libpcap shall hand up, as an expression of pcap-filter(7): coarser than filter.ts, since a capture has to be opened anew to change
 * it. It names no server, so that it changes with the frontends and source addresses alone.
 */

import { formatAddress, swap32 } from '../packet/address.ts';
import { ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMP_ERRORS } from '../packet/fields.ts';
import { addressesOf, type FilterSpec } from './filter.ts';

/** Addresses and ports that are named one by one; of more, all frames for this host come up, and the pipeline drops what is not ours. */
const MOST_NAMED = 128;

/** @param mac of the interface; empty where it has no Ethernet */
export function captureFilter(spec: FilterSpec, mac: Uint8Array): string {
  const ours = [...toAddresses(spec), either([...segments(spec), icmp(ICMP_ERRORS), ...echoes(spec), FRAGMENTS])].join(' and ');
  const others = returning(spec);
  return [...toUs(mac), 'ip', others.length === 0 ? ours : either([`(${ours})`, ...others])].join(' and ');
}

function either(terms: readonly string[]): string {
  return `(${terms.join(' or ')})`;
}

/**
 * Not what others are sent, since the interface is made promiscuous, nor what this host sends. `inbound` says the latter as well, but not of
 * the first frame of a capture: libpcap, which cannot be sure that this has met the filter in the kernel (pcap_setfilter_linux), looks at
 * it once more in the process, where nothing is inbound. Only where senders look like receivers (no Ethernet, loopback) is there no other way.
 */
function toUs(mac: Uint8Array): string[] {
  if (mac.every((byte) => byte === 0)) return ['inbound'];
  return [`ether dst ${[...mac].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`];
}

/** Which the pipeline counts. */
const FRAGMENTS = '(ip[6:2] & 0x3fff != 0)';

function icmp(types: readonly number[]): string {
  return `(icmp and (${types.map((type) => `icmp[0] = ${type}`).join(' or ')}))`;
}

function echoes({ echo }: FilterSpec): string[] {
  return echo === undefined || echo.addresses.length + echo.servers.length === 0 ? [] : [icmp([ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY])];
}

/** Answers of servers to clients, by the servers' ports alone; and ICMP, of which the pipeline sees which is about those. */
function returning({ returning: servers = [], echo }: FilterSpec): string[] {
  const answers = [...new Set(servers.map(({ protocol }) => protocol))].map((protocol) => {
    const ports = [...new Set(servers.filter((one) => one.protocol === protocol).map(({ port }) => port))];
    if (ports.length > MOST_NAMED) return `ip proto ${protocol}`;
    return `(ip proto ${protocol} and ${either(ports.map((port) => `src port ${port}`))})`;
  });
  const pings = (echo?.returning ?? []).length > 0 ? [ICMP_ECHO_REPLY] : [];
  const types = [...(servers.length + pings.length > 0 ? ICMP_ERRORS : []), ...pings];
  return types.length === 0 ? answers : [...answers, icmp(types)];
}

function toAddresses(spec: FilterSpec): string[] {
  const addresses = addressesOf(spec).map((address) => formatAddress(swap32(address)));
  if (addresses.length > MOST_NAMED) return [];
  return [`(${addresses.map((address) => `dst host ${address}`).join(' or ')})`];
}

function segments({ frontends, servers, firstPort, lastPort }: FilterSpec): string[] {
  const protocols = new Set([...frontends, ...servers].map(({ protocol }) => protocol));
  return [...protocols].map((protocol) => {
    const ports = [...new Set(frontends.filter((one) => one.protocol === protocol).map(({ port }) => port))];
    if (ports.length > MOST_NAMED) return `ip proto ${protocol}`;
    const named = ports.map((port) => `dst port ${port}`);
    const replies = servers.some((one) => one.protocol === protocol) ? [`dst portrange ${firstPort}-${lastPort}`] : [];
    return `(ip proto ${protocol} and (${[...named, ...replies].join(' or ')}))`;
  });
}
