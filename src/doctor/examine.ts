/** Asks every probe. */
import type { Config } from '../config/model.ts';
import { formNow } from '../rules/form.ts';
import { serverAddresses } from '../rules/from-config.ts';
import type { RulesMode } from '../rules/types.ts';
import { addresses } from './addresses.ts';
import { type Finding, type Host, warn } from './finding.ts';
import { firewall } from './firewall.ts';
import { interfaces } from './interfaces.ts';
import { actNat, clockSource } from './kernel.ts';
import { describeLinks, ownAddresses, serverPaths } from './network.ts';
import { privileges } from './privileges.ts';
import { routes } from './routes.ts';
import { ways } from './ways.ts';

/**
 * Everything there is to say about this host, in the order in which to mend it.
 * @param config undefined: what can be said without one
 */
export async function examine(mode: RulesMode, config: Config | undefined): Promise<Finding[]> {
  const machine = [...privileges(), clockSource(), ...(mode === 'dsr' ? [actNat()] : [])];
  if (config === undefined)
    return [...machine, warn('configuration', 'none given: no look at addresses, routes and firewall', 'lb4 doctor --config=FILE')];
  // Without the addon nothing more can be read; privileges() has said so.
  if (machine.some(({ mend }) => mend === 'make build')) return machine;
  const host = await hostOf(mode, config);
  return [...machine, ...addresses(host), ...routes(host), ...ways(host), ...(await interfaces(host)), ...(await firewall(host))];
}

async function hostOf(mode: RulesMode, config: Config): Promise<Host> {
  const paths = await serverPaths(config);
  const own = await ownAddresses();
  const names = [
    ...config.frontends.map(({ listen }) => own.get(listen.ip)),
    ...paths.filter(({ local }) => !local).map(({ link }) => link),
  ];
  const form = formNow(serverAddresses(config));
  return { mode, config, own, form, paths, links: await describeLinks(names.filter((name) => name !== undefined)) };
}
