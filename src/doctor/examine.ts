/** Asks every probe. */
import type { Config } from '../config/model.ts';
import { fansOut, isPacketMode, MODES, type Mode, type PacketMode } from '../config/modes.ts';
import { formNow } from '../rules/form.ts';
import { serverAddresses } from '../rules/from-config.ts';
import { addresses } from './addresses.ts';
import { bans } from './bans.ts';
import { checks } from './checks.ts';
import { returnWay } from './clients.ts';
import { fanOut } from './fan-out.ts';
import { fastPath } from './fast-path.ts';
import { type Finding, type Host, warn } from './finding.ts';
import { firewall } from './firewall.ts';
import { inlinePorts } from './inline.ts';
import { interfaces } from './interfaces.ts';
import { actNat, clockSource, udpSegments } from './kernel.ts';
import { killed } from './killed.ts';
import { limits } from './limits.ts';
import { listeners } from './listeners.ts';
import { describeLinks, ownAddresses, serverPaths } from './network.ts';
import { policy } from './policy.ts';
import { addon, lacksAddon, privileges } from './privileges.ts';
import { proxyHost } from './proxy.ts';
import { routes } from './routes.ts';
import { running } from './running.ts';
import { serverLacks } from './server.ts';
import { tunnels } from './tunnels.ts';
import { ways } from './ways.ts';
import { workers } from './workers.ts';

/**
 * Everything there is to say about this host, in the order in which to mend it.
 * @param config undefined: what can be said without one
 */
export async function examine(mode: Mode, config: Config | undefined): Promise<Finding[]> {
  if (fansOut(mode) && config !== undefined)
    return [...addon(), ...(lacksAddon() ? [] : await fanOut(config)), ...(await running({ config, mode }))];
  const machine = [
    ...(isPacketMode(mode) ? [...privileges(config?.passthrough.io), ...fastPath(config?.passthrough)] : addon()),
    clockSource(),
    ...actNat(mode, config),
  ];
  if (config === undefined)
    return [...machine, warn('configuration', 'none given: no look at addresses, routes and firewall', 'lb4 doctor --config=FILE')];
  if (lacksAddon()) return machine;
  const host = await hostOf(mode, config);
  const { inline } = config;
  if (!MODES[mode].ownsAddresses && inline !== undefined)
    return [
      ...machine,
      ...killed(config.file),
      ...(await inlinePorts(inline)),
      ...(await bans({ config })),
      ...workers(host),
      ...udpSegments(config),
      ...(await running(host)),
    ];
  const shared = [...killed(config.file), ...addresses(host), ...routes(host)];
  if (!isPacketMode(mode)) return [...machine, ...(await proxyHost(config)), ...shared];
  const own = [
    ...workers(host),
    ...udpSegments(config),
    ...checks(host),
    ...(await interfaces(host)),
    ...(await firewall(host, mode)),
    ...(await bans(host)),
    ...listeners(host),
    ...(await limits(host)),
    ...(await tunnels(host)),
    ...(await running(host)),
  ];
  return [...machine, ...shared, ...ways(host), ...returnWay(host), ...(await policy(host)), ...own];
}

/** What a server in DSR lacks, as far as it shows from here. @param server an address of one of the file's servers */
export async function examineServer(mode: PacketMode, config: Config, server: string): Promise<Finding[]> {
  if (lacksAddon()) return addon();
  return await serverLacks({ mode, config, paths: await serverPaths(config) }, server);
}

async function hostOf(mode: Mode, config: Config): Promise<Host> {
  const paths = await serverPaths(config);
  const own = await ownAddresses();
  const names = [
    ...config.frontends.map(({ listen }) => own.get(listen.ip)),
    ...config.backends.flatMap(({ sourceAddrs }) => sourceAddrs.map((ip) => own.get(ip))),
    ...paths.filter(({ local }) => !local).map(({ link }) => link),
  ];
  // IPv6 is for proxy mode only, which has no rules.
  const form = formNow(isPacketMode(mode) ? serverAddresses(config) : []);
  return { mode, config, own, form, paths, links: await describeLinks(names.filter((name) => name !== undefined)) };
}
