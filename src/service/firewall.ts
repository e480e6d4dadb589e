/** The firewall rules of this host, kept in step with the plan. */
import type { Address, TransportProtocol } from '../config/model.ts';
import type { PacketMode } from '../config/modes.ts';
import { sourcesOf } from '../config/sources.ts';
import type { Logger } from '../log.ts';
import { formNow } from '../rules/form.ts';
import { answersClients, echoesOf } from '../rules/from-config.ts';
import { renderBalancerScript } from '../rules/render.ts';
import { runRules } from '../rules/run.ts';
import { CLIENTS, type Form, type RulesInput } from '../rules/types.ts';
import type { HostState } from './guard.ts';
import { hostRules, isOfTable } from './host-rules.ts';
import type { Plan } from './plan.ts';

/** Servers' ways back, by server and source. */
type Returns = ReadonlyMap<string, RulesInput['returns'][number]>;

/** Their keys, for who comes after this process. */
export interface KeptReturns {
  /** Those of an lb4 that died whose connections go on. */
  readonly last: readonly string[];
  readonly write: (keys: readonly string[]) => void;
}

/** What is to stand, or stands. */
interface Places {
  readonly frontends: RulesInput['frontends'];
  readonly returns: Returns;
  readonly echoes: readonly string[];
  /** The same for the same places, in whatever order. */
  readonly key: string;
}

export class Firewall {
  readonly #mode: PacketMode;
  readonly #log: Pick<Logger, 'info' | 'warn'>;
  readonly #formNow: typeof formNow;
  #form: Form | undefined;
  /** The one that this host needs by now, where it could not be installed: traffic is lost meanwhile. */
  #untaken: Form | undefined;
  readonly #kept: KeptReturns | undefined;
  /** Undefined: nothing was installed yet. */
  #installed: Places | undefined;
  /** Of the last installation; empty: it was all done. */
  #warnings: readonly string[] = [];

  /**
   * @param kept where the ways back are written down, for connections that outlive this process
   * @param askForm for tests: asks the host otherwise
   */
  constructor(mode: PacketMode, log: Pick<Logger, 'info' | 'warn'>, kept?: KeptReturns, askForm = formNow) {
    this.#mode = mode;
    this.#log = log;
    this.#formNow = askForm;
    this.#kept = kept;
  }

  /** What stands on this host when it is installed, for the guard. */
  get states(): HostState[] {
    const form: HostState = {
      what: 'rules_form',
      name: 'firewall rules for bridged frames',
      usually: 'br_netfilter does this',
      verify: async () => (this.#untaken === undefined ? [] : [`form ${this.#untaken.name}: ${this.#untaken.why}`]),
      repair: () => this.follow(),
    };
    const rules = hostRules({
      mode: this.#mode,
      key: () => `${this.#form?.name}\n${this.#installed?.key}`,
      tables: () => (this.#form?.name === 'input' ? ['raw', 'mangle'] : ['raw']),
      untracks: () => !this.#warnings.some(isOfTable) && (this.#installed?.frontends.length ?? 0) > 0,
      script: () => this.#script(),
    });
    return [...rules, form];
  }

  /**
   * Puts the rules of `plan` in place; where its frontends and servers stand as before it does nothing at all, for every change of
   * a server's health makes a plan. Returns what puts the last rules in their place again.
   * @throws Lb4Error as `runRules` does; then the rules are as they were
   */
  async install(plan: Plan): Promise<() => Promise<void>> {
    const last = this.#installed;
    const wanted = placesOf(plan, this.#mode, last?.returns ?? returnsIn(plan, this.#kept?.last ?? []));
    if (wanted.key === last?.key) return async () => {};
    const form = this.#form ?? this.#formNow(serversOf(wanted));
    await this.#run(wanted, form);
    if (this.#form === undefined && form.name === 'input') this.#log.info({ form: form.name, reason: form.why }, 'firewall rules');
    this.#form = form;
    return async () => {
      if (last !== undefined) await this.#run(last, this.#form);
    };
  }

  /** Whether `plan` has places that are not installed yet. */
  lacks(plan: Plan): boolean {
    const last = this.#installed;
    if (last === undefined) return true;
    const stands = new Set(last.key.split('\n'));
    return placesOf(plan, this.#mode, last.returns)
      .key.split('\n')
      .some((place) => !stands.has(place));
  }

  /**
   * Takes away what `plan`, which lacks nothing, needs no more. Never rejects: a rule too many harms nothing, and must not keep a
   * dead server in rotation. What could not be taken away the guard finds stale: it tells that, and tries again.
   */
  async prune(plan: Plan): Promise<void> {
    const wanted = placesOf(plan, this.#mode, this.#installed?.returns ?? new Map());
    if (wanted.key === this.#installed?.key) return;
    this.#installed = wanted;
    await this.#run(wanted, this.#form).catch(() => {});
  }

  /**
   * Asks the host which form of the rules is right now, and installs that one where it is another than the one that stands; at every
   * moment one of them holds. Cheap where nothing has changed. To be called now and then, never while a plan is installed.
   * @throws Lb4Error as `runRules` does; then the rules are as they were
   */
  async follow(): Promise<void> {
    if (this.#installed === undefined) return;
    const form = this.#formNow(serversOf(this.#installed));
    this.#untaken = form.name === this.#form?.name ? undefined : form;
    if (this.#untaken === undefined) return;
    await this.#run(this.#installed, form);
    this.#form = form;
    this.#untaken = undefined;
    this.#log.warn({ form: form.name, reason: form.why }, 'firewall rules have taken another form');
  }

  /** Installs once more what should stand. Throws as {@link install} does. */
  async again(): Promise<void> {
    if (this.#installed !== undefined) await this.#run(this.#installed, this.#form);
  }

  /** Takes away every rule of lb4, and puts back what they had changed. */
  async remove(): Promise<void> {
    const { warnings } = await runRules(this.#script(), 'remove');
    for (const warning of warnings) this.#log.warn({}, `firewall rules: ${warning}`);
  }

  #script(): string {
    return this.#scriptOf(this.#installed ?? NOWHERE, this.#form);
  }

  async #run(places: Places, form: Form | undefined): Promise<void> {
    // First: who is killed between the two leaves no way back unnamed.
    this.#kept?.write([...places.returns.keys()]);
    const { warnings } = await runRules(this.#scriptOf(places, form), 'install');
    this.#installed = places;
    this.#hear(warnings);
  }

  /** Tells at the change what this host refuses, and lb4 can do without. */
  #hear(warnings: readonly string[]): void {
    const warning = warnings.join('; ');
    if (warning === this.#warnings.join('; ')) return;
    if (warning === '') this.#log.info({}, 'firewall rules: all there, also what this host had refused');
    else this.#log.warn({}, `firewall rules: ${warning}`);
    this.#warnings = warnings;
  }

  #scriptOf({ frontends, returns, echoes }: Places, form: Form | undefined): string {
    return renderBalancerScript({ mode: this.#mode, frontends, returns: [...returns.values()], echoes, form });
  }
}

const NOWHERE: Places = { frontends: [], returns: new Map(), echoes: [], key: '' };

export function serversOf({ returns }: Places): Set<string> {
  return new Set([...returns.values()].map(({ server }) => server));
}

/** @param last ways back that stay while both ends are balanced */
export function placesOf(plan: Plan, mode: PacketMode, last: Returns): Places {
  const frontends = plan.frontends.map(({ frontend: { listen, backend } }) => {
    return { address: listen.ip, port: listen.port, protocol: backend.protocol };
  });
  const returns = returnsOf(plan, mode, last);
  const echoes = echoesOf(plan.frontends.map(({ frontend }) => frontend));
  const listens = new Set(plan.frontends.map(({ frontend: { listen, backend } }) => `${backend.protocol.name} ${listen.text}`));
  const answered = echoes.map((address) => `pings ${address}`).sort();
  return { frontends, returns, echoes, key: [...[...listens].sort(), ...answered, '', ...[...returns.keys()].sort()].join('\n') };
}

/** One stays while both its ends are balanced, since a frontend may have changed its backend. */
function returnsOf(plan: Plan, mode: PacketMode, last: Returns): Returns {
  const { frontends, backends } = plan;
  const sources = allSources(plan);
  const servers = new Set(
    backends.flatMap(({ backend: { protocol }, servers: own }) => own.map(({ server }) => `${protocol.name} ${server.addr.text}`)),
  );
  const kept = [...last].filter(([, { server, serverPort, source, protocol }]) => {
    return sources.has(source) && servers.has(`${protocol.name} ${server}:${serverPort}`);
  });
  const fresh = frontends.flatMap(({ frontend: { listen, backend } }) => {
    const own = backends.find((one) => one.backend.name === backend.name);
    const ours = own === undefined ? [] : sourcesOf({ listen, backend: own.backend });
    const from = own !== undefined && answersClients(mode, own.backend) ? [...ours, CLIENTS] : ours;
    return (own?.servers ?? []).flatMap(({ server: { addr } }) => from.map((source) => wayBack(backend.protocol, addr, source)));
  });
  return new Map([...kept, ...fresh]);
}

/** All that servers may answer to: addresses of old connections, too. */
function allSources({ frontends, backends, formerSources }: Plan): Set<string> {
  const listened = frontends.map(({ frontend }) => frontend.listen.ip);
  return new Set([...listened, ...backends.flatMap(({ backend }) => backend.sourceAddrs), ...formerSources, CLIENTS]);
}

/** By key and as a rule needs it. */
function wayBack(protocol: TransportProtocol, { ip, port, text }: Address, source: string) {
  return [`${protocol.name} ${text} ${source}`, { server: ip, serverPort: port, source, protocol }] as const;
}

/** Those of `keys` of which both ends are balanced. Nobody vouches for the keys: all that a rule is made of comes from the plan. */
function returnsIn(plan: Plan, keys: readonly string[]): Returns {
  const wanted = new Set(keys);
  if (wanted.size === 0) return new Map();
  const sources = allSources(plan);
  const ways = plan.backends.flatMap(({ backend: { protocol }, servers }) => {
    return servers.flatMap(({ server: { addr } }) => [...sources].map((source) => wayBack(protocol, addr, source)));
  });
  return new Map(ways.filter(([key]) => wanted.has(key)));
}
