/** The DROP rules that keep the kernel out of lb4's connections: are they there, and do they drop no more than that? */
import { MODES, type PacketMode } from '../config/modes.ts';
import { sourcesOf } from '../config/sources.ts';
import { EXIT, Lb4Error } from '../errors.ts';
import { lockHolder } from '../io/namespace-lock.ts';
import { CHECK_PORTS, rangeText } from '../layout/ports.ts';
import { rulesFor } from '../rules/from-config.ts';
import { iptablesCommand } from '../rules/program.ts';
import { renderBalancerScript } from '../rules/render.ts';
import { runRules } from '../rules/run.ts';
import { ask, isNft, legacyTables, savedRules } from '../rules/saved.ts';
import { type Piece, piecesOf, plain } from '../rules/status.ts';
import { PING } from '../rules/types.ts';
import { answersOf, concerns, type DropRule, drops, parseDropRules, requestsTo } from './drop-rule.ts';
import { type Finding, fail, type Host, ok, warn } from './finding.ts';
import { acceptingJumps } from './jumps.ts';

export async function firewall(host: Host, mode: PacketMode): Promise<Finding[]> {
  return [...(await ownRules(host, mode)), ...(await jumps(host)), ...(await strangers(host))];
}

/** The rules script compares what stands beside its own rules; it follows no jump. */
async function jumps({ form }: Host): Promise<Finding[]> {
  const places =
    form.name === 'input'
      ? ([
          ['raw', 'PREROUTING'],
          ['mangle', 'INPUT'],
        ] as const)
      : ([['raw', 'PREROUTING']] as const);
  const found = await Promise.all(
    places.map(async ([table, chain]) => acceptingJumps(await savedRules(table), chain).map((rule) => [table, rule] as const)),
  );
  return found.flat().map(([table, rule]) => {
    const why = 'stands above rules of lb4, and what its chain accepts passes them; lb4 does not follow jumps';
    return warn('firewall', `${table}: ${rule} ${why}`, `iptables-save -t ${table}`);
  });
}

/** What the rules script's `status` says. A lb4 that runs needs its rules; one that starts installs them itself. */
async function ownRules({ config, form }: Host, mode: PacketMode): Promise<Finding[]> {
  const mend = `lb4 rules --apply --${mode} --config=${config.file}`;
  let pieces: Piece[];
  try {
    const { output } = await runRules(renderBalancerScript({ ...rulesFor(config, mode), form }), 'status');
    pieces = piecesOf(output);
  } catch (error) {
    if (!(error instanceof Lb4Error)) throw error;
    const noTool = error.message.includes('not found');
    return [
      fail(
        'firewall',
        error.message,
        noTool ? 'apt-get install iptables' : error.exitCode === EXIT.missing ? 'run it as root: sudo lb4 doctor …' : mend,
      ),
    ];
  }
  const findings = judge(pieces, mend);
  const present = pieces.filter(({ state }) => state === 'present').length;
  if (findings.length > 0) return findings;
  if (lockHolder()?.rules === false)
    return [warn('firewall', `all ${present} rules of lb4 are there, but lb4 runs with --no-rules: it puts none back that is taken away`)];
  return [ok('firewall', `all ${present} rules of lb4 are there`)];
}

function judge(pieces: readonly Piece[], mend: string): Finding[] {
  const of = (wanted: Piece['state'], what?: Piece['kind']) =>
    pieces.filter(({ state, kind }) => state === wanted && (what === undefined || kind === what)).map(({ text }) => text);
  const missing = of('missing', 'rule');
  const [table] = of('missing', 'table');
  const [ports] = of('missing', 'ports');
  const [fragments] = of('missing', 'fragments');
  const [refused] = of('refused');
  const stale = of('stale');
  const shadowed = of('shadowed');
  const holder = lockHolder();
  const unguarded = holder?.rules === false ? ', with --no-rules: it does not put them back' : '';
  const absent = holder
    ? (check: string, what: string) => fail(check, `${what} while lb4 runs${unguarded}`, mend)
    : (check: string, what: string) => ok(check, `${what}; lb4 sees to it when it starts (with --no-rules you do: ${mend})`);
  return [
    ...(missing.length > 0 ? [absent('firewall', `${missing.length} DROP rules are missing, the first ${plain(missing[0])}`)] : []),
    ...(fragments === undefined
      ? []
      : [
          absent(
            'firewall',
            `the rule that has fragments put together is missing (${plain(fragments)}): those of datagrams fill the kernel's memory`,
          ),
        ]),
    ...(refused === undefined ? [] : [warn('firewall', refused.replace(/^.*?: /, ''), 'modprobe xt_socket')]),
    ...(ports === undefined ? [] : [absent('reserved ports', `net.ipv4.ip_local_reserved_ports lacks ${ports.split(' ').at(-1)}`)]),
    ...(table === undefined ? [] : [absent('firewall', `${table} is missing: NAT of this host may change what lb4 sends`)]),
    ...(shadowed.length > 0
      ? [
          absent(
            'firewall',
            `DROP rules of lb4 have no effect, since a rule above them lets pass what they are to drop: ${shadowed[0]?.replace(/^by /, '')}`,
          ),
        ]
      : []),
    ...(stale.length > 0
      ? [warn('firewall', `${stale.length} rules of another configuration are there, the first ${plain(stale[0])}`, mend)]
      : []),
  ];
}

/** DROP rules that others wrote, from a README perhaps. */
async function strangers(host: Host): Promise<Finding[]> {
  const tools = await iptablesWithRules();
  const found = await Promise.all(tools.map(async (tool) => parseDropRules((await ask(`${tool}-save`, '-t', 'raw')) ?? '')));
  return found.flatMap((rules, index) => rules.filter(({ ours }) => !ours).flatMap((rule) => judgeStranger(rule, tools[index], host)));
}

/** iptables-legacy creates a table by looking at it: it is only asked about one that is there. */
async function iptablesWithRules(): Promise<string[]> {
  const usual = iptablesCommand();
  const isFace = (await isNft(usual)) ?? false;
  return [...(isFace ? [usual] : []), ...(legacyTables().includes('raw') ? [isFace ? 'iptables-legacy' : usual] : [])];
}

function judgeStranger(rule: DropRule, tool: string, { mode, config, form }: Host): Finding[] {
  const mend = `${tool} -t raw -D ${rule.text}`;
  const answers = config.frontends.flatMap((frontend) => {
    const { servers, protocol } = frontend.backend;
    // What answers pings is dropped by nobody's rule of lb4's.
    if (protocol.name === PING) return [];
    return servers.flatMap(({ addr }) => sourcesOf(frontend).map((source) => answersOf(addr.ip, addr.port, source, protocol)));
  });
  if (answers.some(({ checks }) => drops(rule, checks)))
    return [fail('firewall', `too wide: ${rule.text} drops answers to health checks (ports ${rangeText(CHECK_PORTS)}), too`, mend)];
  // Without a bridge lb4 gets its copy before, and rules that drop what its own drop are one too many, no more.
  const requests = config.frontends.map(({ listen, backend }) => requestsTo(listen.ip, listen.port, backend.protocol));
  const needed = [...requests, ...(MODES[mode].directions === 2 ? answers.map(({ connections }) => connections) : [])];
  if (form.name === 'input' && needed.some((packets) => drops(rule, packets)))
    return [fail('firewall', `in the way: ${rule.text} drops frames that lb4 needs: ${form.why}`, mend)];
  const ports = config.frontends
    .filter(({ listen, backend }) => listen.port !== 0 && concerns(rule, backend.protocol))
    .map(({ listen }) => listen.port);
  if (!isWide(rule, ports)) return [];
  return [warn('firewall', `too wide: ${rule.text} drops that port for every address of this host, and for those behind it`, mend)];
}

function isWide({ destination, destinationPorts }: DropRule, ports: readonly number[]): boolean {
  return destination === undefined && ports.some((port) => destinationPorts.first <= port && port <= destinationPorts.last);
}
