/** The firewall rules of this host, kept in step with the plan. */
import { renderBalancerScript } from '../rules/render.ts';
import { runRules } from '../rules/run.ts';
import type { RulesInput, RulesMode } from '../rules/types.ts';
import type { HostState } from './guard.ts';
import { hostRules } from './host-rules.ts';
import type { Plan } from './plan.ts';

/** Servers' ways back, by server and source. */
type Returns = ReadonlyMap<string, RulesInput['returns'][number]>;

/** What is to stand, or stands. */
interface Places {
  readonly frontends: RulesInput['frontends'];
  readonly returns: Returns;
  /** The same for the same places, in whatever order. */
  readonly key: string;
}

export class Firewall {
  readonly #mode: RulesMode;
  /** Undefined: nothing was installed yet. */
  #installed: Places | undefined;

  constructor(mode: RulesMode) {
    this.#mode = mode;
  }

  /** What stands on this host when it is installed, for the guard. */
  get states(): HostState[] {
    return hostRules({ mode: this.#mode, key: () => this.#installed?.key ?? '', script: () => this.#installedScript() });
  }

  /**
   * Puts the rules of `plan` in place; where its frontends and servers stand as before it does nothing at all, for every change of
   * a server's health makes a plan. Returns what puts the last rules in their place again.
   * @throws Lb4Error as `runRules` does; then the rules are as they were
   */
  async install(plan: Plan): Promise<() => Promise<void>> {
    const last = this.#installed;
    const wanted = placesOf(plan, last?.returns ?? new Map());
    if (wanted.key === last?.key) return async () => {};
    await this.#run(wanted);
    return async () => {
      if (last !== undefined) await this.#run(last);
    };
  }

  /** Takes away every rule of lb4, and puts back what they had changed. */
  async remove(): Promise<void> {
    await runRules(this.#installedScript(), 'remove');
  }

  #installedScript(): string {
    const { frontends, returns } = this.#installed ?? { frontends: [], returns: new Map() };
    return this.#script(frontends, returns);
  }

  async #run(places: Places): Promise<void> {
    await runRules(this.#script(places.frontends, places.returns), 'install');
    this.#installed = places;
  }

  #script(frontends: RulesInput['frontends'], returns: Returns): string {
    return renderBalancerScript({ mode: this.#mode, frontends, returns: [...returns.values()] });
  }
}

function placesOf(plan: Plan, last: Returns): Places {
  const frontends = plan.frontends.map(({ frontend: { listen } }) => ({ address: listen.ip, port: listen.port }));
  const returns = returnsOf(plan, last);
  const listens = new Set(plan.frontends.map(({ frontend: { listen } }) => listen.text));
  return { frontends, returns, key: [...[...listens].sort(), '', ...[...returns.keys()].sort()].join('\n') };
}

/** One stays while both its ends are balanced, since a frontend may have changed its backend. */
function returnsOf({ frontends, backends }: Plan, last: Returns): Returns {
  const sources = new Set(frontends.map(({ frontend }) => frontend.listen.ip));
  const servers = new Set(backends.flatMap((backend) => backend.servers.map(({ server }) => server.addr.text)));
  const kept = [...last].filter(([, { server, serverPort, source }]) => {
    return sources.has(source) && servers.has(`${server}:${serverPort}`);
  });
  const fresh = frontends.flatMap(({ frontend: { listen, backend } }) => {
    const own = backends.find((one) => one.backend.name === backend.name)?.servers ?? [];
    return own.map(({ server: { addr } }) => {
      const way = { server: addr.ip, serverPort: addr.port, source: listen.ip };
      return [`${addr.text} ${listen.ip}`, way] as const;
    });
  });
  return new Map([...kept, ...fresh]);
}
