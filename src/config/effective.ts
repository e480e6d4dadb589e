/** What is in effect, as a file: `lb4 config`. The file's own keys, those that it leaves to lb4, and what these are by its mode and host. */
import type { Config } from './model.ts';
import { fansOut, MODES, type Mode } from './modes.ts';
import { needsRestart } from './restart.ts';
import type { FileConfig } from './schema/file.ts';

export type Keys = FileConfig;

type Table = Readonly<Record<string, unknown>>;

/** What has no default of its own in the schema is as lb4 has settled it. */
export function effectiveKeys(keys: Keys, config: Config, mode: Mode | undefined): Keys {
  // What it asks for stands in the other tables by now.
  const { glb: _glb, ...own } = keys;
  const stats = keys.stats && config.stats && { stats: { ...keys.stats, address: config.stats.listen.ip } };
  // Its frontends are none of the file's.
  if (fansOut(mode)) return { ...own, ...stats };
  return {
    ...own,
    frontends: mapTable(keys.frontends, (table, name) => {
      const own = config.frontends.filter(({ name: one, label = one }) => label === name);
      // Pings have no port, and no answer of lb4's own.
      const known = own.find(({ backend }) => backend.protocol.name !== 'icmp');
      return known === undefined ? table : { ...table, icmp_echo: known.icmpEcho ?? 'kernel' };
    }),
    backends: mapTable(keys.backends, (table, name) => {
      const [own, ...others] = config.backends.filter(({ name: one, label = one }) => label === name);
      if (own === undefined) return table;
      const isOne = (of: (backend: Config['backends'][number]) => unknown) => others.every((other) => of(other) === of(own));
      const balance = own.balance ?? (mode && MODES[mode].balance);
      return {
        ...table,
        // Where protocols differ, the file leaves it to them.
        ...(balance !== undefined && isOne((one) => one.balance) && { balance }),
        ...(own.healthHoldMs !== undefined && { health_hold: own.healthHoldMs / 1000 }),
        ...(isOne((one) => one.healthCheck.type) && { health_check: table.health_check ?? own.healthCheck.type }),
      };
    }),
    ...stats,
    passthrough: { ...keys.passthrough, workers: config.passthrough.workers },
  };
}

/** What stands in a running lb4: of the keys that only a restart changes, those of the start. */
export function keysInEffect(now: Keys, start: Keys): Keys {
  const merged = Object.entries(now).map(([section, table]) => {
    const old = (start as Table)[section] as Table | undefined;
    if (typeof table !== 'object') return [section, table] as const;
    const keys = Object.keys({ ...old, ...table }).map((key) => {
      return [key, needsRestart(`${section}.${key}`) ? old?.[key] : (table as Table)[key]] as const;
    });
    return [section, Object.fromEntries(keys)] as const;
  });
  return Object.fromEntries(merged) as Keys;
}

function mapTable<T>(tables: Readonly<Record<string, T>>, map: (table: T, name: string) => T): Record<string, T> {
  return Object.fromEntries(Object.entries(tables).map(([name, table]) => [name, map(table, name)]));
}
