/** Sets of the host's firewall whose addresses no frontend serves (`[passthrough] respect_firewall`): the configuration with what is in them. */
import { type AccessList, denyAlso, PrefixList } from '../access/prefix-list.ts';
import type { Config } from '../config/model.ts';
import { isPacketMode, type Mode } from '../config/modes.ts';
import { ConfigError, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { readFirewallSet } from '../rules/firewall-set.ts';

/** They are looked at so often, … */
const LOOK_MS = 2000;
/** … but rest for so many times as long as reading them took: a twentieth of a processor at most. */
const REST = 20;

/** fail2ban makes its set at the first ban, and takes it away when it stops. */
const ABSENT = "there is no such set in this host's firewall (nft list sets)";

type Sets = ReadonlyMap<string, PrefixList>;

/** Polled: nft(8) can tell of changes, but not of elements whose time is over. */
export class FirewallSets {
  readonly #mode: Mode;
  readonly #log: Pick<Logger, 'info' | 'warn'>;
  #names: readonly string[] = [];
  /** As they were last read: all anew where one has changed, since tables are known by the lists that they are made of. */
  #sets: Sets = new Map();
  /** Why a set could not be read the last time, by its name. */
  readonly #troubles = new Map<string, string>();
  #changed: () => void = () => {};
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(mode: Mode, log: Pick<Logger, 'info' | 'warn'>) {
    this.#mode = mode;
    this.#log = log;
  }

  /**
   * Reads those that `written` names, at the same time. One that is not there is as it was known, or empty: whoever fills it may make it later.
   * Returns what takes that back. Throws ConfigError where one cannot be read.
   */
  async follow({ passthrough, file }: Config): Promise<() => void> {
    const names = isPacketMode(this.#mode) ? (passthrough.respectFirewall ?? []) : [];
    const before = { names: this.#names, sets: this.#sets };
    const found = await Promise.all(names.map((name) => readFirst(name, file)));
    const entries = names.map((name, i) => [name, found[i] ?? before.sets.get(name) ?? new PrefixList()] as const);
    this.#names = names;
    this.#sets = new Map(entries);
    for (const name of this.#troubles.keys()) if (!names.includes(name)) this.#troubles.delete(name);
    for (const [i, name] of names.entries()) {
      const list = found[i];
      if (list === undefined) this.#tellTrouble(name, ABSENT);
      else this.#tellRead(name, list);
    }
    return () => {
      this.#names = before.names;
      this.#sets = before.sets;
    };
  }

  /** `config` with frontends that deny all of them. */
  expand(config: Config): Config {
    if (this.#names.length === 0) return config;
    const deny = (list: AccessList | undefined) => denyAlso(list, this.#sets);
    return { ...config, frontends: config.frontends.map((frontend) => ({ ...frontend, deny: deny(frontend.deny) })) };
  }

  /** From now on they are looked at, and `changed` is called when there is something else in one. */
  begin(changed: () => void): void {
    this.#changed = changed;
    this.#next(LOOK_MS);
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  #next(afterMs: number): void {
    if (!this.#isStopped) this.#timer = setTimeout(() => void this.#look(), afterMs).unref();
  }

  async #look(): Promise<void> {
    const [names, before, began] = [this.#names, this.#sets, performance.now()];
    const sets = new Map<string, PrefixList>();
    for (const name of names) sets.set(name, (await this.#read(name)) ?? before.get(name)!);
    // A reload may have come between.
    const isCurrent = names === this.#names && before === this.#sets && !this.#isStopped;
    if (isCurrent && names.some((name) => !isSame(before.get(name)!, sets.get(name)!))) {
      this.#sets = sets;
      this.#changed();
    }
    this.#next(Math.max(LOOK_MS, REST * (performance.now() - began)));
  }

  /** Undefined: it cannot be read, which is told once. */
  async #read(name: string): Promise<PrefixList | undefined> {
    try {
      const list = await readFirewallSet(name);
      if (list !== undefined) {
        this.#tellRead(name, list);
        return list;
      }
      this.#tellTrouble(name, ABSENT);
    } catch (error) {
      this.#tellTrouble(name, messageOf(error));
    }
    return undefined;
  }

  #tellRead(name: string, { size }: PrefixList): void {
    if (this.#troubles.delete(name)) this.#log.info({ set: name, prefixes: size }, 'a set of respect_firewall can be read now');
  }

  #tellTrouble(name: string, reason: string): void {
    if (this.#troubles.get(name) !== reason)
      this.#log.warn({ set: name, reason }, 'a set of respect_firewall cannot be read: who was in it is denied as before, else nobody');
    this.#troubles.set(name, reason);
  }
}

/** Undefined: it is not there. */
async function readFirst(name: string, file: string): Promise<PrefixList | undefined> {
  try {
    return await readFirewallSet(name);
  } catch (error) {
    throw new ConfigError([
      { severity: 'error', file, position: undefined, path: 'passthrough.respect_firewall', message: messageOf(error) },
    ]);
  }
}

/** nft lists elements in their order. */
function isSame(one: PrefixList, other: PrefixList): boolean {
  const [a, b] = [one.of(4), other.of(4)];
  return a.bits.length === b.bits.length && a.bits.every((bits, i) => bits === b.bits[i] && a.firsts[i] === b.firsts[i]);
}
