/** Rules of a packet mode, installed by hand, that the mode which runs cannot do with, or cannot do without. */
import { expect, test } from 'vitest';
import { configuration, LB4, launch, STATS_PORT, startBalancer, writeConfiguration } from '../lab/balancer.ts';
import type { Running } from '../lab/processes.ts';
import { Topology, VIP } from '../lab/topology.ts';

/** Within so many seconds. */
const served = async ({ client }: Topology, seconds = 60) =>
  (await client.run('curl', '-sS', '--max-time', `${seconds}`, `http://${VIP}/`)).code === 0;

async function missing({ balancer }: Topology, what: string): Promise<string | undefined> {
  const { stdout } = await balancer.run('curl', '-sS', `http://127.0.0.1:${STATS_PORT}/metrics`);
  return new RegExp(`^lb4_host_missing\\{what="${what}"\\} (\\d+)$`, 'm').exec(stdout)?.[1];
}

/** Does it, and waits until that is told. */
async function oneLook({ balancer }: Topology, running: Running, spoil: string, said: RegExp): Promise<void> {
  const told = running.nextLine(said);
  balancer.sh('sh', '-c', spoil);
  await told;
}

test.concurrent('proxy mode beside the rules of `lb4 rules --apply`: told at the start and while it runs, until they go; not those of other frontends', async () => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const settings = lab.settings();
  const file = writeConfiguration(lab.balancer, configuration(settings));
  const other = writeConfiguration(
    lab.balancer,
    configuration({ frontends: { other: { listen: `${VIP}:81`, servers: ['10.72.0.11:81'] } } }),
  );
  lab.balancer.sh(LB4, 'rules', '--apply', `--config=${file}`);
  const running = launch(lab.balancer, configuration(settings), 'proxy');
  const line = await running.line(/rules of a packet mode: drop what clients send/);
  expect(line).toMatch(/\(frontend http \(10\.71\.0\.1:80\), and 1 more\): .*mend: lb4 rules --remove --config=\S+;/);
  expect(await missing(lab, 'packet_rules')).toBe('2');
  expect(await served(lab, 2)).toBe(false);
  const doctor = await lab.balancer.run(LB4, 'doctor', '--proxy', `--config=${file}`);
  expect(doctor.stdout).toMatch(/^fail +firewall: rules of a packet mode drop what clients send to frontend http \(10\.71\.0\.1:80\)/m);

  const well = /rules of a packet mode: none is in the way any more/;
  await oneLook(lab, running, /mend: (lb4 [^;"]*)/.exec(line)?.[1]?.replace(/^lb4/, LB4) ?? 'false', well);
  expect(await served(lab)).toBe(true);
  expect(await missing(lab, 'packet_rules')).toBe('0');
  // And while it runs, by the form for bridges.
  const rule = `PREROUTING -d ${VIP}/32 -p tcp -m tcp --dport 80 -m comment --comment lb4 -j CT --notrack`;
  await oneLook(
    lab,
    running,
    `${LB4} rules --apply --config=${other} && iptables -t raw -A ${rule}`,
    /drop what clients send \(frontend http \(10\.71\.0\.1:80\)\)/,
  );
  await oneLook(lab, running, `iptables -t raw -D ${rule}`, well);
  expect(running.lines.filter((text) => text.includes('drop what clients send ('))).toHaveLength(2);
  expect(await running.stop()).toEqual({ code: 0, signal: null });
  lab.balancer.sh(LB4, 'rules', '--remove', `--config=${other}`);
});

test.concurrent('--no-rules without any rules, or with those of other frontends: told, until they are there; nothing is said where others drop', async () => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const settings = lab.settings();
  const other = writeConfiguration(
    lab.balancer,
    configuration({ frontends: { other: { listen: `${VIP}:81`, servers: ['10.72.0.11:81'] } } }),
  );
  lab.balancer.sh(LB4, 'rules', '--apply', `--config=${other}`);
  const { running } = await startBalancer(lab.balancer, settings, { args: ['--no-rules'] });
  const line = await running.line(/firewall rules: missing/);
  expect(line).toMatch(
    /missing \(-d 10\.71\.0\.1\/32 -p tcp -m tcp --dport 80, and 3 more\).*--no-rules leaves the rules to you: lb4 rules --apply --passthrough/,
  );
  expect(await missing(lab, 'rules')).toBe('4');

  const well = /firewall rules: all there again/;
  await oneLook(lab, running, /to you: (lb4 [^;"]*)/.exec(line)?.[1]?.replace(/^lb4/, LB4) ?? 'false', well);
  expect(await served(lab)).toBe(true);
  expect(await missing(lab, 'rules')).toBe('0');

  const before = running.lines.length;
  lab.balancer.sh(
    'sh',
    '-c',
    `nft add table ip own && nft add chain ip own pre '{ type filter hook prerouting priority -300; }' &&
    nft add rule ip own pre ip daddr ${VIP} tcp dport '{ 7, 80 }' drop && nft add rule ip own pre ip daddr ${VIP} tcp dport 33768-61000 drop`,
  );
  lab.balancer.sh('iptables', '-t', 'raw', '-F');
  // Which looks, too.
  const reloaded = running.nextLine(/"configuration reloaded"/);
  running.signal('SIGHUP');
  await reloaded;
  expect(running.lines.slice(before).filter((text) => text.includes('firewall rules'))).toEqual([]);
  expect(await served(lab)).toBe(true);
  expect(await running.stop()).toEqual({ code: 0, signal: null });
  lab.balancer.sh(LB4, 'rules', '--remove', `--config=${other}`);
});
