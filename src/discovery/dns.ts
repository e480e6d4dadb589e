/** Names and services, by whichever nameservers; no longer than a few seconds. */

import type { SrvRecord } from 'node:dns';
import { promises } from 'node:dns';
import { lookup } from 'node:dns/promises';
import { joinPort, readAddress } from '../config/address.ts';
import type { Answer, Found } from './answer.ts';

export interface DnsOptions {
  /** `192.0.2.53:53`; undefined: those of /etc/resolv.conf, and for names that they do not know the host's own look-up. */
  readonly nameservers: readonly string[] | undefined;
  /** Addresses of which families are of use. */
  readonly families: readonly (4 | 6)[];
}

/** Of one question to one nameserver, and how many times each is asked. */
const PATIENCE = { timeout: 1500, tries: 2 } as const;
/** An answer that holds for less is asked for no sooner; one that holds for longer is. */
const HOLDS_MS = { least: 1000, most: 300_000 } as const;
/** Of what came without a time: /etc/hosts, or a library of the host. */
const LOOKED_UP_MS = 10_000;
/** Node does not tell how long SRV records hold. */
const SRV_MS = 30_000;

/** Every address of `host`, each with `port`. Rejects where there is none. */
export async function findName(host: string, port: number, options: DnsOptions): Promise<Answer> {
  const { addresses, holdsMs } = await addressesOf(host, options);
  return { found: foundAt(addresses, port), holdsMs };
}

/**
 * The targets of a service's SRV records (RFC 2782): those of the lowest priority number, and the others as backups. Their weights are shares
 * of a priority; where all are 0, all are equal. A target without an address fails the whole: whoever it is may be the one that serves.
 */
export async function findService(name: string, options: DnsOptions): Promise<Answer> {
  const records = await resolver(options).resolveSrv(name);
  if (records.some(({ name: target }) => target === '' || target === '.'))
    throw new Error('the service is decidedly not available (RFC 2782)');
  const targets = await Promise.all(records.map(async (record) => ({ record, ...(await addressesOf(record.name, options)) })));
  const best = Math.min(...records.map(({ priority }) => priority));
  const found = targets.flatMap(({ record, addresses }) =>
    foundAt(addresses, record.port).map((one) => ({ ...one, weight: weightOf(record, records), backup: record.priority > best })),
  );
  return { found, holdsMs: Math.min(SRV_MS, ...targets.map(({ holdsMs }) => holdsMs)) };
}

/** Weight 0 among others is "little chance", not none. */
function weightOf({ weight, priority }: SrvRecord, records: readonly SrvRecord[]): number {
  const isWeighed = records.some((record) => record.priority === priority && record.weight > 0);
  return isWeighed ? Math.max(1, weight) : 1;
}

/** Those that are addresses here, of which expand.ts says which can be servers; an IPv4 address in IPv6 form is none. Throws where none is. */
function foundAt(addresses: readonly string[], port: number): Found[] {
  const read = addresses.map((ip) => readAddress(joinPort(ip, port)));
  const found = read.flatMap((addr) => ('problem' in addr ? [] : [{ addr, weight: 1, backup: false }]));
  const [first] = read.flatMap((addr) => ('problem' in addr ? [addr.problem] : []));
  if (found.length === 0 && first !== undefined) throw new Error(`its answer ${first}`);
  return found;
}

interface Addresses {
  readonly addresses: readonly string[];
  readonly holdsMs: number;
}

async function addressesOf(host: string, options: DnsOptions): Promise<Addresses> {
  const asked = await Promise.allSettled(options.families.map((family) => resolveOf(host, family, options)));
  const answers = asked.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
  const failures = asked.flatMap((one) => (one.status === 'rejected' ? [one.reason as NodeJS.ErrnoException] : []));
  // A family that could not be asked for is no family without addresses: half an answer would take the other half's servers away.
  const failure = failures.find((one) => !isUnknown(one)) ?? failures[0];
  if (answers.length > 0 && (failure === undefined || isUnknown(failure)))
    return { addresses: answers.map(({ address }) => address), holdsMs: within(answers) };
  if (options.nameservers !== undefined || !isUnknown(failure)) throw failure ?? new Error(`${host} has no address`);
  return lookUp(host, options, failure);
}

function resolveOf(host: string, family: 4 | 6, options: DnsOptions) {
  const asker = resolver(options);
  return family === 4 ? asker.resolve4(host, { ttl: true }) : asker.resolve6(host, { ttl: true });
}

function within(answers: readonly { readonly ttl: number }[]): number {
  const ms = Math.min(...answers.map(({ ttl }) => ttl)) * 1000;
  return Math.max(HOLDS_MS.least, Math.min(ms, HOLDS_MS.most));
}

/** No answer will come: the nameservers say that there is no such name, do not answer for it, or there are none to ask: this host may know it (/etc/hosts, search domains). */
function isUnknown(error: NodeJS.ErrnoException | undefined): boolean {
  return error === undefined || ['ENOTFOUND', 'ENODATA', 'EREFUSED', 'ENOTIMP', 'ECONNREFUSED'].includes(error.code ?? '');
}

async function lookUp(host: string, { families }: DnsOptions, before: Error | undefined): Promise<Addresses> {
  const all = await lookup(host, { all: true }).catch((error: unknown) => {
    throw before ?? error;
  });
  const addresses = all.filter(({ family }) => families.includes(family as 4 | 6)).map(({ address }) => address);
  if (addresses.length === 0) throw before ?? new Error(`${host} has no address of use`);
  return { addresses, holdsMs: LOOKED_UP_MS };
}

/** A new one each time: it reads /etc/resolv.conf once. */
function resolver({ nameservers }: DnsOptions): promises.Resolver {
  const made = new promises.Resolver(PATIENCE);
  if (nameservers !== undefined) made.setServers(nameservers);
  return made;
}
