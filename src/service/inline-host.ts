/**
 * What a host needs whose lb4 stands between interfaces, and what may befall these: the kernel is kept away from them (iptables/inline.sh),
 * and who looks at the log, /healthz or the metrics learns of one that is down, gone, or has an address.
 */
import { readFile } from 'node:fs/promises';
import { sayOf } from '../config/load.ts';
import type { Config, Inline } from '../config/model.ts';
import { isPacketMode, MODES } from '../config/modes.ts';
import { ListenAddressError } from '../errors.ts';
import { interfacesNow } from '../io/interfaces.ts';
import { deadHolder } from '../io/namespace-lock.ts';
import { addressesAt, blocked, portNames, unfit, uppersOf } from '../rules/inline-ports.ts';
import { renderInlineScript } from '../rules/render.ts';
import { readNftTable, runRules } from '../rules/run.ts';
import type { Firewall } from './firewall.ts';
import type { HostState } from './guard.ts';
import { removeLeftRules } from './leftovers.ts';
import type { Plan } from './plan.ts';

/** What keeps the kernel away, whichever the mode. */
export type HostRules = Pick<Firewall, 'states' | 'install' | 'lacks' | 'prune' | 'follow' | 'again' | 'remove'>;

/** The interfaces that a plan is for, on either side. */
export function portsIn({ config: { inline } }: Pick<Plan, 'config'>): readonly string[] {
  return inline === undefined ? [] : portNames(inline);
}

/**
 * Throws ListenAddressError where lb4 cannot stand between the interfaces as they are now: one line.
 * @param known those that it stands at already: what befalls them is told otherwise
 */
export function assertPorts({ file, inline }: Config, known: readonly string[] = []): void {
  if (inline === undefined) return;
  const links = interfacesNow();
  for (const name of portNames(inline)) {
    if (known.includes(name)) continue;
    const wrong = unfit(name, links);
    if (wrong !== undefined) throw new ListenAddressError(sayOf(file, keyOf(inline, name), `${wrong.problem}; needed: ${wrong.needed}`));
  }
}

/** Where the file names it. */
function keyOf({ backend, frontends }: Inline, name: string): (string | number)[] {
  if (name === backend) return ['inline', 'backend'];
  const isList = frontends.every(({ clients }) => clients.length === 0);
  return ['inline', 'frontends', ...(isList ? [frontends.findIndex((one) => one.name === name)] : [name])];
}

/** The kernel, kept away from the interfaces. */
export class InlineHost implements HostRules {
  readonly states: HostState[];
  #ports: readonly string[] = [];
  /** Which they were when it was installed. */
  #installed = '';

  constructor() {
    this.states = [
      {
        what: 'inline',
        name: 'what keeps the kernel away from the interfaces of [inline]',
        usually: '`nft flush ruleset`, `sysctl --system` and tools that tune a host do this',
        verify: () => this.#missing(),
        repair: () => this.#run('install'),
      },
    ];
  }

  /** Those that it stood at before, or another lb4 stands at, stay until {@link prune}: somebody forwards there. */
  async install(plan: Plan): Promise<() => Promise<void>> {
    const mode = deadHolder()?.mode;
    // What a killed one of another mode has left would drop what passes here.
    const ownedAddresses = mode !== undefined && isPacketMode(mode) && MODES[mode].ownsAddresses;
    if (ownedAddresses) await removeLeftRules();
    const last = devicesIn((await readNftTable('lb4_inline', 'netdev')) ?? '');
    await this.#have([...new Set([...last, ...portsIn(plan)])]);
    return async () => {
      if (last.length > 0) await this.#have(last);
    };
  }

  lacks(plan: Plan): boolean {
    return portsIn(plan).some((port) => !this.#ports.includes(port));
  }

  /** Never rejects: what an interface too many keeps from the kernel the next change takes up again. */
  async prune(plan: Plan): Promise<void> {
    const wanted = portsIn(plan);
    if (this.#ports.every((port) => wanted.includes(port))) return;
    await this.#have(wanted).catch(() => {});
  }

  async #have(ports: readonly string[]): Promise<void> {
    const last = this.#ports;
    this.#ports = ports;
    try {
      await this.again();
    } catch (error) {
      this.#ports = last;
      throw error;
    }
  }

  /** An interface that was made anew has nothing of what its name had. */
  async follow(): Promise<void> {
    if (this.#installed !== this.#now()) await this.again();
  }

  async again(): Promise<void> {
    const now = this.#now();
    await this.#run('install');
    this.#installed = now;
  }

  async remove(): Promise<void> {
    await this.#run('remove');
  }

  #now(): string {
    return interfacesNow()
      .filter(({ name }) => this.#ports.includes(name))
      .map(({ name, index }) => `${name} ${index}`)
      .sort()
      .join();
  }

  async #run(action: 'install' | 'remove'): Promise<void> {
    await runRules(renderInlineScript(this.#ports), action);
  }

  async #missing(): Promise<string[]> {
    const here = interfacesNow().map(({ name }) => name);
    const table = (await readNftTable('lb4_inline', 'netdev')) ?? '';
    const pieces = this.#ports
      .filter((port) => here.includes(port))
      .map(async (port) => [
        ...(isIn(table, port) ? [] : [`the nft chain at ${port}`]),
        ...((await hasIpv6(port)) ? [`disable_ipv6 of ${port}`] : []),
      ]);
    return (await Promise.all(pieces)).flat();
  }
}

/** The interfaces that the table has a chain at. */
function devicesIn(table: string): string[] {
  return [...table.matchAll(/device "([^"]+)"|devices = \{ "?([^" }]+)"? \}/g)].map(([, one, other]) => one ?? other ?? '');
}

/** nft spells one device of a chain in either way, by its version. */
function isIn(table: string, port: string): boolean {
  return [`device "${port}"`, `devices = { ${port} }`, `devices = { "${port}" }`].some((text) => table.includes(text));
}

async function hasIpv6(port: string): Promise<boolean> {
  // A kernel without IPv6 has no such file.
  return (await readFile(`/proc/sys/net/ipv6/conf/${port}/disable_ipv6`, 'utf8').catch(() => '1')).trim() === '0';
}

/**
 * @param names the interfaces as they are by now
 * @param verdicts how many frames ended how, so far
 */
export function portStates(names: () => readonly string[], verdicts: () => Readonly<Record<'dropLoop', number>>): HostState[] {
  let looped = verdicts().dropLoop;
  return [
    {
      what: 'inline_ports',
      name: 'the interfaces of [inline]',
      usually: '',
      words: { wrong: 'frames do not pass', well: 'all up again' },
      verify: async () => {
        const links = interfacesNow();
        return names().flatMap((name) => blocked(name, links) ?? []);
      },
      repair: cannot(
        'what is for one is dropped and counted (dropNoPort, dropNoRoute): ip link set INTERFACE up, a cable, or its other end',
      ),
    },
    {
      what: 'inline_addresses',
      name: 'addresses at the interfaces of [inline]',
      usually: '',
      serves: true,
      words: { wrong: 'there is one', well: 'none any more' },
      verify: async () => {
        const links = interfacesNow();
        const ports = names();
        const uppers = links
          .filter(({ name }) => ports.includes(name))
          .flatMap((link) => uppersOf(link, links).map(({ name }) => `${name} on ${link.name}`));
        return [...ports.flatMap((name) => addressesAt(name).map((address) => `${address} at ${name}`)), ...uppers];
      },
      repair: cannot(
        'nobody reaches it there, since the kernel gets no frame of these interfaces: ip address del ADDRESS dev INTERFACE, ip link del INTERFACE',
      ),
    },
    {
      what: 'inline_loop',
      name: 'the sides of [inline]',
      usually: '',
      serves: true,
      words: { wrong: 'they are joined elsewhere', well: 'no frame comes round any more' },
      verify: async () => {
        const before = looped;
        looped = verdicts().dropLoop;
        return looped === before ? [] : [`${looped - before} frames came by a second interface as well`];
      },
      repair: cannot('a switch, bridge or cable leads from one interface of [inline] to another; lb4 drops what comes round (dropLoop)'),
    },
  ];
}

/** For the guard: told once, and once when it is over. */
function cannot(reason: string): () => Promise<void> {
  return async () => {
    throw new Error(reason);
  };
}
