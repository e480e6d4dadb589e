/** Firewall rules that somebody installed by hand, and that the mode which runs now cannot do with, or cannot do without. */

import type { PacketMode } from '../config/modes.ts';
import { FailureError } from '../errors.ts';
import { lockHolder, nameOf } from '../io/namespace-lock.ts';
import { formNow } from '../rules/form.ts';
import { renderBalancerScript } from '../rules/render.ts';
import { runRules } from '../rules/run.ts';
import { ask, countedBy, isTaken, mayDrop, savedRules } from '../rules/saved.ts';
import { piecesOf, plain } from '../rules/status.ts';
import { placesOf, serversOf } from './firewall.ts';
import type { HostState } from './guard.ts';
import type { Plan } from './plan.ts';

/** What is missing may be made good by other tools: the whole of their rules is read again so often, in ms. */
const AGAIN_MS = 30_000;

/** Proxy mode: rules of a packet mode drop what clients send before the kernel, and so the proxy, gets it. */
export function rulesInTheWay(plan: () => Plan): HostState {
  return {
    what: 'packet_rules',
    name: 'rules of a packet mode',
    usually: '',
    words: { wrong: 'drop what clients send', well: 'none is in the way any more' },
    verify: async () => {
      const ours = countedBy(await savedRules('raw'));
      const taken = plan().frontends.filter(({ frontend }) => isTaken(ours, frontend.listen, frontend.backend.protocol));
      return taken.map(({ frontend: { name, listen } }) => `frontend ${name} (${listen.text})`);
    },
    repair: async () => {
      const other = lockHolder();
      throw new FailureError(
        other === undefined
          ? `somebody installed them by hand (lb4 rules --apply); mend: lb4 rules --remove --config=${plan().config.file}`
          : `${nameOf(other)} serves it, too: stop one of the two, or give them other frontends`,
      );
    },
  };
}

/** A packet mode with --no-rules: without any rules the kernel, which has the address, answers clients itself, mostly with resets. */
export function rulesLeftToUser(mode: PacketMode, plan: () => Plan): HostState {
  const rules = new HandRules(mode);
  return {
    what: 'rules',
    name: 'firewall rules',
    usually: '',
    verify: () => rules.missing(plan()),
    repair: async () => {
      const mend = `lb4 rules --apply --${mode} --config=${plan().config.file}`;
      throw new FailureError(`nothing drops these packets, so the kernel resets them, and --no-rules leaves the rules to you: ${mend}`);
    },
  };
}

class HandRules {
  readonly #mode: PacketMode;
  #last: { readonly key: string; readonly until: number; readonly missing: readonly string[] } | undefined;

  constructor(mode: PacketMode) {
    this.#mode = mode;
  }

  /** Rules that are not there, and that nothing else may stand for. Cheap while neither plan nor rules change. Never rejects. */
  async missing(plan: Plan): Promise<readonly string[]> {
    // Without iptables the user has other ways, and nothing is known.
    return this.#find(plan).catch(() => []);
  }

  async #find(plan: Plan): Promise<readonly string[]> {
    const places = placesOf(plan, this.#mode, new Map());
    const tables = [await savedRules('raw'), await savedRules('mangle')];
    const key = [places.key, ...tables.map((table) => table.replaceAll(/^[#:].*\n/gm, ''))].join('\n');
    const now = performance.now();
    if (this.#last?.key === key && (this.#last.missing.length === 0 || now < this.#last.until)) return this.#last.missing;
    const { frontends, returns, echoes } = places;
    const form = formNow(serversOf(places));
    const script = renderBalancerScript({ mode: this.#mode, frontends, returns: [...returns.values()], echoes, form });
    const pieces = piecesOf((await runRules(script, 'status')).output).filter(({ kind, state }) => kind === 'rule' && state === 'missing');
    const wanted = pieces.map(({ text }) => plain(text).replace(/^mangle (?:INPUT|FORWARD) /, ''));
    const missing = wanted.length === 0 ? [] : await this.#unanswered([...new Set(wanted)], tables);
    this.#last = { key, until: now + AGAIN_MS, missing };
    return missing;
  }

  async #unanswered(wanted: readonly string[], tables: readonly string[]): Promise<string[]> {
    const others = [await savedRules('filter'), (await ask('nft', 'list', 'ruleset')) ?? ''];
    const all = [...tables, ...others].join('\n');
    return wanted.filter((rule) => !mayDrop(all, rule));
  }
}
