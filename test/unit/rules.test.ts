import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { rules } from '../../src/cli/rules.ts';
import { addressOf } from '../../src/config/address.ts';
import { parseConfig } from '../../src/config/load.ts';
import { tcp } from '../../src/flow/tcp.ts';
import { addressBytes, formatBytes } from '../../src/ip.ts';
import { LIMITS } from '../../src/layout/limits.ts';
import { rulesFor, serverAddresses, serverRulesFor } from '../../src/rules/from-config.ts';
import { knownAddresses } from '../../src/rules/known-addresses.ts';
import { renderBalancerScript, renderReturnScript, renderServerScript, renderTemplate } from '../../src/rules/render.ts';
import { runRules } from '../../src/rules/run.ts';
import { countedBy, isTaken, mayDrop } from '../../src/rules/saved.ts';
import { piecesOf, plain } from '../../src/rules/status.ts';
import { CLIENTS, type Dialect, type RulesInput, type ServerRulesInput } from '../../src/rules/types.ts';

const input: RulesInput = {
  mode: 'passthrough',
  frontends: [
    { address: '192.0.2.1', port: 80, protocol: tcp },
    { address: '192.0.2.1', port: 443, protocol: tcp },
  ],
  returns: [
    { server: '198.51.100.7', serverPort: 8080, source: '192.0.2.1', protocol: tcp },
    { server: '198.51.100.7', serverPort: 8080, source: '192.0.2.1', protocol: tcp },
  ],
};

/** What the script's own functions make of its configuration. */
function rulesOf(script: string, what = 'wanted_rules'): string[] {
  const functions = script.replace(/^main "\$@"$/m, what);
  return execFileSync('sh', ['-s'], { input: functions, encoding: 'utf8' }).trim().split('\n');
}

const udp = { name: 'udp', number: 17 };
const icmp = { name: 'icmp', number: 1 };
const tag = '-m comment --comment lb4 -j DROP';
/** Has fragments put together before the others. */
const gathering = `-s 255.255.255.255/32 -m socket ${tag}`;

describe('the balancer script', () => {
  test('drops what clients send to frontends and what servers answer, each once', () => {
    expect([...new Set(rulesOf(renderBalancerScript(input)))]).toEqual([
      `-d 192.0.2.1/32 -p tcp -m tcp --dport 80 ${tag}`,
      `-d 192.0.2.1/32 -p tcp -m tcp --dport 443 ${tag}`,
      `-s 198.51.100.7/32 -d 192.0.2.1/32 -p tcp -m tcp --sport 8080 --dport 33768:61000 ${tag}`,
    ]);
    expect(rulesOf(renderBalancerScript(input))).toHaveLength(3);
  });

  test('in the form input lets the same pass untracked, and drops it in INPUT', () => {
    const form = { name: 'input', why: 'frames of br0, br1 pass iptables: x = 1' } as const;
    const lines = rulesOf(renderBalancerScript({ ...input, mode: 'dsr', form }));
    expect([...new Set(lines)]).toEqual([
      'mangle INPUT -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -m comment --comment lb4 -j DROP',
      '-d 192.0.2.1/32 -p tcp -m tcp --dport 80 -m comment --comment lb4 -j CT --notrack',
      'mangle INPUT -d 192.0.2.1/32 -p tcp -m tcp --dport 443 -m comment --comment lb4 -j DROP',
      '-d 192.0.2.1/32 -p tcp -m tcp --dport 443 -m comment --comment lb4 -j CT --notrack',
    ]);
    expect(() => renderBalancerScript({ ...input, form: { ...form, why: "'; reboot" } })).toThrow(RangeError);
  });

  test('says the protocol of each rule', () => {
    const both: RulesInput = {
      mode: 'passthrough',
      frontends: [
        { address: '192.0.2.1', port: 53, protocol: tcp },
        { address: '192.0.2.1', port: 53, protocol: udp },
      ],
      returns: [
        { server: '198.51.100.7', serverPort: 53, source: '192.0.2.1', protocol: udp },
        { server: '198.51.100.7', serverPort: 53, source: '192.0.2.1', protocol: tcp },
      ],
    };
    const script = renderBalancerScript(both);
    expect(rulesOf(script)).toEqual([
      gathering,
      `-d 192.0.2.1/32 -p tcp -m tcp --dport 53 ${tag}`,
      `-d 192.0.2.1/32 -p udp -m udp --dport 53 ${tag}`,
      `-s 198.51.100.7/32 -d 192.0.2.1/32 -p udp -m udp --sport 53 --dport 33768:61000 ${tag}`,
      `-s 198.51.100.7/32 -d 192.0.2.1/32 -p tcp -m tcp --sport 53 --dport 33768:61000 ${tag}`,
    ]);
    const table = rulesOf(script, 'look_untracked; untracked_table').filter((line) => line.includes('notrack'));
    expect(table.map((line) => line.trim().replace(/lb4 \d+/, 'lb4 MARK'))).toEqual([
      'ip saddr . tcp sport { 192.0.2.1 . 53 } notrack comment "lb4 MARK 1/4"',
      'ip saddr . udp sport { 192.0.2.1 . 53 } notrack comment "lb4 MARK 2/4"',
      'ip saddr . ip daddr . udp dport { 192.0.2.1 . 198.51.100.7 . 53 } udp sport 33768-61000 notrack comment "lb4 MARK 3/4"',
      'ip saddr . ip daddr . tcp dport { 192.0.2.1 . 198.51.100.7 . 53 } tcp sport 33768-61000 notrack comment "lb4 MARK 4/4"',
    ]);
    expect(() =>
      renderBalancerScript({ ...both, frontends: [{ address: '192.0.2.1', port: 53, protocol: { name: "x'", number: 17 } }] }),
    ).toThrow(RangeError);
  });

  test('takes pings of addresses that are asked, or answered by lb4; what answers them is dropped nowhere, and changed by no NAT', () => {
    const script = renderBalancerScript({
      ...input,
      frontends: [{ address: '192.0.2.2', port: 0, protocol: icmp }],
      returns: [{ server: '198.51.100.7', serverPort: 0, source: '192.0.2.2', protocol: icmp }],
      echoes: ['192.0.2.1', '192.0.2.2'],
    });
    expect(rulesOf(script)).toEqual([
      gathering,
      `-d 192.0.2.2/32 -p icmp -m icmp --icmp-type 8 ${tag}`,
      `-d 192.0.2.1/32 -p icmp -m icmp --icmp-type 8 ${tag}`,
    ]);
    const table = rulesOf(script, 'look_untracked; untracked_table').filter((line) => line.includes('notrack'));
    expect(table.map((line) => line.trim().replace(/lb4 \d+/, 'lb4 MARK'))).toEqual([
      'ip saddr { 192.0.2.2, 192.0.2.1 } icmp type echo-reply notrack comment "lb4 MARK 1/2"',
      'ip saddr . ip daddr { 192.0.2.2 . 198.51.100.7 } icmp type echo-request notrack comment "lb4 MARK 2/2"',
    ]);
  });

  test('a ping’s rule is shadowed by what lets pass pings, or all of ICMP', () => {
    const accepts = ['--icmp-type 3', '--icmp-type 8', ''].map((type) => `-A PREROUTING -p icmp ${type && `-m icmp ${type} `}-j ACCEPT`);
    const rule = `-A PREROUTING -d 192.0.2.1/32 -p icmp -m icmp --icmp-type 8 ${tag}`;
    const told = rulesOf(renderBalancerScript(input), `shadows raw '${[...accepts, rule].join('\n')}'`);
    expect(told).toEqual(['shadowed by -p icmp -m icmp --icmp-type 8 -j ACCEPT', 'shadowed by -p icmp -j ACCEPT']);
  });

  test('of servers that answer clients drops what goes to nobody here, and keeps what they are sent untracked', () => {
    const clients: RulesInput = {
      mode: 'passthrough',
      frontends: [{ address: '192.0.2.1', port: 53, protocol: udp }],
      returns: [
        { server: '198.51.100.7', serverPort: 53, source: '192.0.2.1', protocol: udp },
        { server: '198.51.100.7', serverPort: 53, source: CLIENTS, protocol: udp },
        { server: '198.51.100.8', serverPort: 80, source: CLIENTS, protocol: tcp },
        { server: '198.51.100.8', serverPort: 0, source: CLIENTS, protocol: icmp },
      ],
    };
    const script = renderBalancerScript(clients);
    const toOthers = '-s 198.51.100.7/32 -p udp -m udp --sport 53 -m addrtype --dst-type UNICAST';
    expect(rulesOf(script)).toEqual([
      gathering,
      `-d 192.0.2.1/32 -p udp -m udp --dport 53 ${tag}`,
      `-s 198.51.100.7/32 -d 192.0.2.1/32 -p udp -m udp --sport 53 --dport 33768:61000 ${tag}`,
      `${toOthers} ${tag}`,
      `-s 198.51.100.8/32 -p tcp -m tcp --sport 80 -m addrtype --dst-type UNICAST ${tag}`,
      `-s 198.51.100.8/32 -p icmp -m icmp --icmp-type 0 -m addrtype --dst-type UNICAST ${tag}`,
    ]);
    const table = rulesOf(script, 'look_untracked; untracked_table').filter((line) => line.includes('notrack'));
    expect(table.map((line) => line.trim().replace(/ comment.*/, ''))).toEqual([
      'ip saddr . udp sport { 192.0.2.1 . 53 } notrack',
      'ip saddr . ip daddr . udp dport { 192.0.2.1 . 198.51.100.7 . 53 } udp sport 33768-61000 notrack',
      'ip daddr . udp dport { 198.51.100.7 . 53 } fib saddr type != local notrack',
      'ip daddr . tcp dport { 198.51.100.8 . 80 } fib saddr type != local notrack',
      'ip daddr { 198.51.100.8 } icmp type echo-request fib saddr type != local notrack',
    ]);
    // Of a bridge they are forwarded, not put in.
    const bridged = rulesOf(renderBalancerScript({ ...clients, form: { name: 'input', why: '' } }));
    expect(bridged).toContain(gathering);
    expect(bridged).toContain(`mangle FORWARD ${toOthers} ${tag}`);
    expect(bridged).toContain(`${toOthers} -m comment --comment lb4 -j CT --notrack`);
    const order = `transaction 'missing mangle FORWARD ${toOthers} ${tag}'`;
    expect(rulesOf(renderBalancerScript(clients), order)).toEqual(['*mangle', `-I FORWARD ${toOthers} ${tag}`, 'COMMIT']);
  });

  test('is shadowed by what lets pass its own protocol, or any', () => {
    const accepts = ['-p tcp -m tcp --dport 53', '-p udp -m udp --dport 53', '-d 192.0.2.1/32'].map(
      (match) => `-A PREROUTING ${match} -j ACCEPT`,
    );
    const rule = `-A PREROUTING -d 192.0.2.1/32 -p udp -m udp --dport 53 ${tag}`;
    const told = rulesOf(renderBalancerScript(input), `shadows raw '${[...accepts, rule].join('\n')}'`);
    expect(told).toEqual(['shadowed by -p udp -m udp --dport 53 -j ACCEPT', 'shadowed by -d 192.0.2.1/32 -j ACCEPT']);
  });

  test('has fragments put together where datagrams go by ports; in INPUT they are', () => {
    const dns = [{ address: '192.0.2.1', port: 53, protocol: udp }];
    const form = { name: 'input', why: '' } as const;
    const all: RulesInput[] = [input, { ...input, echoes: ['192.0.2.1'] }, { mode: 'dsr', frontends: dns, returns: [] }];
    expect(all.map((one) => rulesOf(renderBalancerScript(one)).includes(gathering))).toEqual([false, true, true]);
    expect(rulesOf(renderBalancerScript({ mode: 'dsr', frontends: dns, returns: [], form }))).not.toContain(gathering);
  });

  test('what has fragments put together matches nothing: nothing shadows it', () => {
    const told = rulesOf(renderBalancerScript(input), `shadows raw '-A PREROUTING -j ACCEPT\n-A PREROUTING ${gathering}'`);
    expect(told).toEqual(['']);
  });

  test('in dsr drops nothing that servers send', () => {
    expect(rulesOf(renderBalancerScript({ ...input, mode: 'dsr' }))).toHaveLength(2);
  });

  test('of a configuration without frontends has no rules', () => {
    expect(rulesOf(renderBalancerScript({ mode: 'passthrough', frontends: [], returns: [] }))).toEqual(['']);
  });

  test('passes shellcheck, filled in', () => {
    const check = spawnSync('shellcheck', ['-s', 'sh', '-'], { input: renderBalancerScript(input), encoding: 'utf8' });
    if (check.error !== undefined) return; // not installed
    expect(check.stdout).toBe('');
  });
});

describe('the script of a server that answers clients through lb4', () => {
  const script = renderReturnScript({
    server: '198.51.100.7',
    gateway: '198.51.100.1',
    ports: [
      { port: 80, protocol: tcp },
      { port: 80, protocol: tcp },
      { port: 53, protocol: udp },
    ],
  });

  test('has a rule for each port, one for ICMP where datagrams need it, and a route', () => {
    expect([...new Set(rulesOf(script, 'wanted'))]).toEqual([
      'from 198.51.100.7 ipproto tcp sport 80 lookup 4164',
      'from 198.51.100.7 ipproto udp sport 53 lookup 4164',
      'from 198.51.100.7 ipproto icmp lookup 4164',
      'route default via 198.51.100.1',
    ]);
    const pings = renderReturnScript({
      server: '198.51.100.7',
      gateway: undefined,
      ports: [{ port: 0, protocol: { name: 'icmp', number: 1 } }],
    });
    expect(rulesOf(pings, 'wanted')).toEqual(['from 198.51.100.7 ipproto icmp lookup 4164', 'route default via']);
  });

  test('passes shellcheck, filled in', () => {
    const check = spawnSync('shellcheck', ['-s', 'sh', '-'], { input: script, encoding: 'utf8' });
    if (check.error !== undefined) return; // not installed
    expect(check.stdout).toBe('');
  });
});

const server: ServerRulesInput = {
  server: '198.51.100.7',
  rewrites: [
    { port: 80, vip: '192.0.2.1', protocol: tcp },
    { port: 443, vip: '192.0.2.2', protocol: tcp },
    { port: 80, vip: '192.0.2.1', protocol: tcp },
  ],
  loopback: ['192.0.2.3'],
};

describe("a DSR server's script", () => {
  test('keeps what goes to a VIP, then rewrites what leaves each port, each once', () => {
    expect(rulesOf(renderServerScript(server), 'wanted_rewrites')).toEqual([
      'keep 192.0.2.1',
      'keep 192.0.2.2',
      '198.51.100.7:80>192.0.2.1',
      '198.51.100.7:443>192.0.2.2',
    ]);
  });

  test('as nft', () => {
    expect(rulesOf(renderServerScript(server), 'nft_table').map((line) => line.trim())).toEqual([
      'add table ip lb4',
      'delete table ip lb4',
      'table ip lb4 {',
      'chain dsr {',
      'type filter hook postrouting priority 200; policy accept;',
      'oifname "lo" accept',
      'ip daddr 192.0.2.1 accept comment "lb4 keep 192.0.2.1"',
      'ip daddr 192.0.2.2 accept comment "lb4 keep 192.0.2.2"',
      'ip saddr 198.51.100.7 tcp sport 80 ip saddr set 192.0.2.1 comment "lb4 198.51.100.7:80>192.0.2.1"',
      'ip saddr 198.51.100.7 tcp sport 443 ip saddr set 192.0.2.2 comment "lb4 198.51.100.7:443>192.0.2.2"',
      '}',
      '}',
    ]);
  });

  test('as tc', () => {
    const filter = 'filter add dev eth0 parent 10: protocol ip';
    const from = (port: number) => `match ip src 198.51.100.7/32 match ip protocol 6 0xff match ip sport ${port} 0xffff`;
    expect(rulesOf(renderServerScript(server), 'tc_filters eth0 10:')).toEqual([
      `${filter} prio 1 u32 match ip src 198.51.100.7/32 match ip dst 192.0.2.1/32 action ok`,
      `${filter} prio 1 u32 match ip src 198.51.100.7/32 match ip dst 192.0.2.2/32 action ok`,
      `${filter} prio 10 u32 ${from(80)} action nat egress 198.51.100.7/32 192.0.2.1 continue`,
      `${filter} prio 10 u32 ${from(443)} action nat egress 198.51.100.7/32 192.0.2.2 continue`,
    ]);
  });

  test('says the protocol of each rewrite', () => {
    const script = renderServerScript({
      ...server,
      rewrites: [...server.rewrites.slice(0, 1), { port: 53, vip: '192.0.2.1', protocol: udp }],
    });
    expect(rulesOf(script, 'wanted_rewrites')).toEqual(['keep 192.0.2.1', '198.51.100.7:80>192.0.2.1', '198.51.100.7:53/udp>192.0.2.1']);
    expect(rulesOf(script, 'nft_table')).toContain(
      '    ip saddr 198.51.100.7 udp sport 53 ip saddr set 192.0.2.1 comment "lb4 198.51.100.7:53/udp>192.0.2.1"',
    );
    expect(rulesOf(script, 'tc_filters eth0 10:').at(-1)).toContain('match ip protocol 17 0xff match ip sport 53 0xffff action nat egress');
  });

  test('of tunnels has the largest overhead of each address, ports once, and the program with both written into it', () => {
    const [address, other] = ['192.0.2.1', '2001:db8::1'];
    const tunnels = [
      { vip: address, port: 19_523, overhead: 40 },
      { vip: address, port: 0, overhead: 20 },
      { vip: other, port: 1027, overhead: 48 },
      { vip: other, port: 19_523, overhead: 36 },
    ];
    const wrapped = { server: '198.51.100.7', rewrites: [], loopback: [], tunnels };
    const script = renderServerScript(wrapped);
    expect(rulesOf(script, 'printf "%s " $TUNNELED $GUE_PORTS $IPIP $LOOPBACK')).toEqual([
      '192.0.2.1>40 2001:db8::1>48 19523 1027 yes 192.0.2.1',
    ]);
    const packed = /^OBJECT='\n([^']+)'$/m.exec(script)?.[1] ?? '';
    const object = gunzipSync(Buffer.from(packed, 'base64'));
    const at = object.indexOf('lb4-gue:') + 8;
    expect([...object.subarray(at, at + 12)]).toEqual([198, 51, 100, 7, 0x4c, 0x43, 4, 3, 0, 0, 0, 0]);
    const name = /^PROGRAM='(.*)'$/m;
    expect(name.exec(script)?.[1]).toMatch(/^lb4-gue-[0-9a-f]{8}$/);
    expect(name.exec(renderServerScript({ ...wrapped, server: '198.51.100.8' }))?.[1]).not.toBe(name.exec(script)?.[1]);
    expect(renderServerScript({ ...wrapped, unwrap: 'fou' })).toMatch(/^UNWRAP='fou'\nPROGRAM=''\nOBJECT=''$/m);
    const five = [1, 2, 3, 4, 5].map((port) => ({ vip: address, port, overhead: 40 }));
    expect(() => renderServerScript({ ...wrapped, tunnels: five })).toThrow(RangeError);
    // Whatever it knows is in its name: status tells that another list stands in the kernel.
    const names = [undefined, [], ['198.51.100.8']].map((hops) => name.exec(renderServerScript({ ...wrapped, hops }))?.[1]);
    expect(new Set(names).size).toBe(3);
  });

  test('the program finds all that a file may hold, and nobody else', () => {
    const numbered = (count: number, of: (i: number) => string) => Array.from({ length: count }, (_, i) => of(i));
    const vips = numbered(LIMITS.frontends, (i) => (i % 2 ? `2001:db8::${i.toString(16)}` : `192.0.${i >> 8}.${i & 255}`));
    const hops = numbered(LIMITS.servers, (i) => `10.0.${i >> 8}.${i & 255}`);
    const { places } = knownAddresses(vips, hops);
    const found = Array.from({ length: places.length / 16 }, (_, i) => places.subarray(16 * i, 16 * i + 16))
      .map((place) => formatBytes(place))
      .filter((address) => address !== '::');
    const own = vips.map((vip) => (vip.includes(':') ? vip : `ffff:ffff:ffff:ffff::${vip}`));
    const asHop = (address: string) => formatBytes(Buffer.concat([Buffer.alloc(12, 0xff), addressBytes(address)]));
    expect(found.sort()).toEqual([...own.map((vip) => formatBytes(addressBytes(vip))), ...hops.map(asHop)].sort());
    expect(() =>
      knownAddresses(
        [],
        numbered(8000, (i) => `10.1.${i >> 8}.${i & 255}`),
      ),
    ).toThrow(RangeError);
  });

  test('stands for itself: the shared functions are in it', () => {
    for (const script of [renderServerScript(server), renderBalancerScript(input)]) {
      expect(script).not.toContain('common.sh');
      expect(script.match(/^note\(\) \{$/gm)).toHaveLength(1);
    }
  });

  test('takes only what the shell cannot misread', () => {
    const bad = [
      { server: '$(id)' },
      { loopback: ["1.2.3.4'"] },
      { rewrites: [{ port: 0, vip: '192.0.2.1', protocol: tcp }] },
      { rewrites: [{ port: 80, vip: '::1', protocol: tcp }] },
      { dialect: 'ebtables' as Dialect },
    ];
    for (const one of bad) expect(() => renderServerScript({ ...server, ...one })).toThrow(RangeError);
  });
});

describe('only addresses and ports reach the shell', () => {
  const hostile = ["1.2.3.4'; touch /tmp/owned; '", '1.2.3.4\n', '$(id)', '::1', 'example.org', '1.2.3', '', '1.2.3.4/0'];
  test.each(hostile)('address %j', (address) => {
    expect(() => renderBalancerScript({ ...input, frontends: [{ address, port: 80, protocol: tcp }] })).toThrow(RangeError);
    const server = { server: address, serverPort: 80, source: '192.0.2.1', protocol: tcp };
    expect(() => renderBalancerScript({ ...input, returns: [server] })).toThrow(RangeError);
    const source = { server: '192.0.2.9', serverPort: 80, source: address, protocol: tcp };
    expect(() => renderBalancerScript({ ...input, returns: [source] })).toThrow(RangeError);
  });

  test.each([0, -1, 65536, 1.5, Number.NaN, '80;id' as unknown as number])('port %s', (port) => {
    expect(() => renderBalancerScript({ ...input, frontends: [{ address: '192.0.2.1', port, protocol: tcp }] })).toThrow(RangeError);
  });

  test('mode', () => {
    expect(() => renderBalancerScript({ ...input, mode: "dsr'" as 'dsr' })).toThrow(RangeError);
  });

  test('any setting of any template', () => {
    for (const value of ["'", '"', '`', '$x', '\\', 'a b']) {
      expect(() => renderTemplate('balancer.sh', { MODE: value })).toThrow(RangeError);
    }
  });
});

describe('running it', () => {
  test('fails with its own line and exit code', async () => {
    const running = runRules(renderBalancerScript(input), 'status', { iptables: 'no-such-iptables' });
    await expect(running).rejects.toMatchObject({
      exitCode: 77,
      message: expect.stringMatching(/^rules: (no-such-iptables not found|needs root)/) as string,
    });
  });

  test('the bare template does nothing', async () => {
    await expect(runRules(renderTemplate('balancer.sh', { MODE: '' }), 'install')).rejects.toThrow('rules: this is the template');
  });
});

const toml = `
[frontends.web]
listen_addr = "192.0.2.1:80"
backend = "web_out"
[frontends.alt]
listen_addr = "192.0.2.2:8080"
backend = "web_out"
[backends.web_out]
[backends.web_out.servers.a]
addr = "198.51.100.1:80"
[backends.web_out.servers.b]
addr = "198.51.100.2:8080"
weight = 0
`;

/** Suits DSR: server .1 answers for two frontends, .2 for one of either kind. */
const dsrToml = `
[frontends]
web = { listen_addr = "192.0.2.1:80", backend = "web" }
tls = { listen_addr = "192.0.2.2:443", backend = "tls" }
near = { listen_addr = "192.0.2.3:80", backend = "near" }
[backends.web.servers]
a.addr = "198.51.100.1:80"
b.addr = "198.51.100.2:80"
[backends.tls.servers]
a.addr = "198.51.100.1:443"
[backends.near]
dsr = "l2"
[backends.near.servers]
b.addr = "198.51.100.2:80"
`;

test("lb4's rules in the raw table take frontends' packets, in either form; 0.0.0.0 is taken where its port is, and :: is not", () => {
  const ours = countedBy(
    [
      `-A PREROUTING -d 192.0.2.1/32 -p tcp -m tcp --dport 80 ${tag}`,
      '[7:420] -A PREROUTING -d 192.0.2.2/32 -p tcp -m tcp --dport 443 -m comment --comment lb4 -j CT --notrack',
      `-A PREROUTING -s 10.0.0.1/32 -d 192.0.2.1/32 -p tcp -m tcp --sport 8080 --dport 33768:61000 ${tag}`,
      '-A PREROUTING -d 192.0.2.3/32 -p tcp -m tcp --dport 22 -j DROP',
    ].join('\n'),
  );
  expect([...ours.values()]).toEqual([0, 7, 0]);
  const listens = [
    '192.0.2.1:80',
    '192.0.2.2:443',
    '192.0.2.1:443',
    '192.0.2.3:22',
    '0.0.0.0:443',
    '0.0.0.0:44',
    '0.0.0.0:61000',
    '[::]:80',
  ];
  expect(listens.filter((listen) => isTaken(ours, addressOf(listen), tcp))).toEqual(['192.0.2.1:80', '192.0.2.2:443', '0.0.0.0:443']);
});

test('what a script says of its rules, piece by piece', () => {
  const output = `form input: because
present reserved ports 33768-61000
missing mangle INPUT -d 192.0.2.1/32 ${tag}
stale -d 192.0.2.9/32 ${tag}
missing nft table ip lb4_untracked
missing ${gathering}
refused -s 255.255.255.255/32 -m socket: why not
`;
  expect(piecesOf(output).map(({ state, kind, text }) => [state, kind, plain(text)])).toEqual([
    ['present', 'ports', 'reserved ports 33768-61000'],
    ['missing', 'rule', 'mangle INPUT -d 192.0.2.1/32'],
    ['stale', 'rule', '-d 192.0.2.9/32'],
    ['missing', 'table', 'nft table ip lb4_untracked'],
    ['missing', 'fragments', '-s 255.255.255.255/32 -m socket'],
    ['refused', 'fragments', '-s 255.255.255.255/32 -m socket: why not'],
  ]);
});

describe('the rules of a configuration', () => {
  const { config } = parseConfig(toml, 'lb4.toml');

  test('passthrough: each frontend, and each of its servers towards its address', () => {
    const { frontends, returns } = rulesFor(config, 'passthrough');
    expect(frontends.map(({ address, port }) => `${address}:${port}`)).toEqual(['192.0.2.1:80', '192.0.2.2:8080']);
    expect(returns.map(({ server, serverPort, source }) => `${server}:${serverPort}>${source}`)).toEqual([
      '198.51.100.1:80>192.0.2.1',
      '198.51.100.2:8080>192.0.2.1',
      '198.51.100.1:80>192.0.2.2',
      '198.51.100.2:8080>192.0.2.2',
    ]);
  });

  test('passthrough: towards the source addresses of its backend, where it has some', () => {
    const named = toml.replace('[backends.web_out]', '$&\nsource_addrs = ["192.0.2.8", "192.0.2.9"]');
    const { returns } = rulesFor(parseConfig(named, 'lb4.toml').config, 'passthrough');
    expect([...new Set(returns.map(({ server, source }) => `${server}>${source}`))]).toEqual([
      '198.51.100.1>192.0.2.8',
      '198.51.100.1>192.0.2.9',
      '198.51.100.2>192.0.2.8',
      '198.51.100.2>192.0.2.9',
    ]);
  });

  test('dsr: each server answers for the frontends that send it packets', () => {
    const { config } = parseConfig(dsrToml, 'lb4.toml', { mode: 'dsr' });
    expect(serverAddresses(config)).toEqual(['198.51.100.1', '198.51.100.2']);
    const protocol = { name: 'tcp', number: 6 };
    const [first, second] = [
      { port: 80, vip: '192.0.2.1', protocol },
      { port: 443, vip: '192.0.2.2', protocol },
    ];
    expect(serverRulesFor(config, 'dsr', '198.51.100.1')).toEqual({ server: '198.51.100.1', rewrites: [first, second], loopback: [] });
    expect(serverRulesFor(config, 'dsr', '198.51.100.2')).toEqual({ server: '198.51.100.2', rewrites: [first], loopback: ['192.0.2.3'] });
    const wrapped = (dsr: 'gue' | 'ipip', port: number) => {
      const backends = config.backends.map((backend) => ({ ...backend, dsr, tunnel: { port, source: undefined } }));
      const frontends = config.frontends.map((frontend) => ({
        ...frontend,
        backend: { ...frontend.backend, dsr, tunnel: { port, source: undefined } },
      }));
      return serverRulesFor({ ...config, frontends, backends }, 'dsr', '198.51.100.2');
    };
    const vips = ['192.0.2.1', '192.0.2.3'];
    // Without a table of GLB's no packet has a list, so nobody is asked next.
    expect(wrapped('gue', 1027).hops).toEqual([]);
    expect(wrapped('gue', 1027).tunnels).toEqual(vips.map((vip) => ({ vip, port: 1027, overhead: 40 })));
    expect(wrapped('ipip', 0).tunnels).toEqual(vips.map((vip) => ({ vip, port: 0, overhead: 20 })));
  });
});

describe('lb4 rules', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lb4-rules-'));
  const file = join(directory, 'lb4.toml');
  writeFileSync(file, toml);
  const dsrFile = join(directory, 'dsr.toml');
  writeFileSync(dsrFile, dsrToml);
  afterAll(() => rmSync(directory, { recursive: true }));

  async function said(options: Partial<Parameters<typeof rules>[0]>) {
    const text = { out: '', err: '' };
    const output = { out: (line: string) => (text.out += line), err: (line: string) => (text.err += line) };
    return { status: await rules({ config: file, ...options }, output), ...text };
  }

  test('prints the script, passthrough unless told', async () => {
    const { status, out, err } = await said({});
    expect({ status, err }).toEqual({ status: 0, err: '' });
    expect(rulesOf(out)).toHaveLength(6);
    expect((await said({ passthrough: true })).out).toBe(out);
    expect(rulesOf((await said({ dsr: true, config: dsrFile })).out)).toHaveLength(3);
  });

  test('prints the script of a server', async () => {
    const dsr = { dsr: true, config: dsrFile };
    expect((await said({ ...dsr, for: 'balancer' })).out).toBe((await said(dsr)).out);
    const { status, out, err } = await said({ ...dsr, for: '198.51.100.2', dialect: 'tc' });
    expect({ status, err }).toEqual({ status: 0, err: '' });
    expect(out).toContain("SERVER='198.51.100.2'\nREWRITES='\n80>192.0.2.1\n'\nLOOPBACK='\n192.0.2.3\n'\nDIALECT='tc'\n");
  });

  test.each([
    ['nft', 'warning: --dialect nft is for dsr = "nat", which no backend of 198.51.100.2\'s has: no effect'],
    ['fou', 'warning: --dialect fou is for dsr = "gue", which no backend of 198.51.100.2\'s has: no effect'],
  ])('a dialect that a server has no use for is told: %s', async (dialect, warning) => {
    const ipip = join(directory, 'ipip.toml');
    writeFileSync(ipip, dsrToml.replace('[backends.web.servers]', '[backends.web]\ndsr = "ipip"\n$&'));
    const { status, err } = await said({ dsr: true, config: ipip, for: '198.51.100.2', dialect });
    expect(status).toBe(0);
    expect(err).toContain(warning);
  });

  test('printing tells a person that nothing is installed yet, and what installs it', async () => {
    const hints: string[] = [];
    const output = { out() {}, err: expect.unreachable, hint: (text: string) => void hints.push(text) };
    await rules({ config: dsrFile, dsr: true, for: '198.51.100.2' }, output);
    await rules({ config: dsrFile, dsr: true }, output);
    expect(hints).toEqual([
      'lb4: nothing is installed yet. On 198.51.100.2, as root: sh FILE install\n',
      'lb4: nothing is installed yet. Here, as root: sh FILE install\n',
    ]);
    // And so does the head of each script.
    for (const host of ['198.51.100.2', 'balancer'])
      expect((await said({ config: dsrFile, dsr: true, for: host })).out).toMatch(/^#\s{3}sh FILE install$/m);
  });

  const dsr = { dsr: true };
  test.each([
    [{ ...dsr, for: '198.51.100.9' }, 'no backend has this server; there are: 198.51.100.1, 198.51.100.2, and "balancer"'],
    [{ for: '198.51.100.1' }, 'in passthrough it needs no rules'],
    [{ ...dsr, dialect: 'nft' }, '--dialect needs --for SERVER_IP'],
    [{ ...dsr, for: '198.51.100.1', dialect: 'pf' }, '--dialect pf is unknown; there are: tc, nft, iptables, bpf, fou'],
    [{ ...dsr, dryRun: true }, '--dry-run needs --apply or --remove'],
  ])('refuses %j', async (options, message) => {
    const { status, err, out } = await said({ config: dsrFile, ...options });
    expect({ status, out }).toEqual({ status: 2, out: '' });
    expect(err).toContain(message);
  });

  test('refuses a configuration that does not suit DSR', async () => {
    const { status, err } = await said(dsr);
    expect({ status, err }).toEqual({ status: 78, err: expect.stringContaining('has another port than its frontend') as string });
  });

  test('refuses what excludes each other, and reports a bad file', async () => {
    expect((await said({ dsr: true, passthrough: true })).status).toBe(2);
    expect((await said({ apply: true, status: true })).status).toBe(2);
    expect((await said({ config: join(directory, 'none.toml') })).status).toBe(78);
  });
});

describe('what may drop in place of a rule that is missing', () => {
  const WANTED = '-d 192.0.2.1/32 -p tcp -m tcp --dport 80';
  const REPLIES = '-s 10.0.0.1/32 -d 192.0.2.1/32 -p tcp -m tcp --sport 80 --dport 33768:61000';
  test.each([
    ['-A PREROUTING -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -j DROP', true],
    ['-A INPUT -p tcp -m multiport --dports 80,443 -j DROP', true],
    ['-A INPUT -i eth0 -j DROP', true],
    [':INPUT DROP [0:0]', true],
    ['\t\ttype filter hook input priority filter; policy drop;', true],
    ['\t\tip daddr 192.0.2.1 tcp dport 80 counter packets 1 bytes 40 drop', true],
    ['\t\tip daddr @vips tcp dport { 80, 443 } drop', true],
    ['-A PREROUTING -d 192.0.2.1/32 -p tcp -m tcp --dport 81 -j DROP', false],
    ['-A PREROUTING -d 192.0.2.2/32 -p tcp -m tcp --dport 80 -j DROP', false],
    ['-A PREROUTING -s 10.0.0.1/32 -d 192.0.2.1/32 -p tcp -m tcp --sport 81 --dport 33768:61000 -j DROP', false],
    ['-A INPUT -s 203.0.113.9/32 -j DROP', false],
    ['\t\tip daddr 192.0.2.2 tcp dport 80 drop', false],
    ['-A INPUT -m conntrack --ctstate INVALID -j DROP', false],
    ['\t\tct state invalid drop', false],
    ['\t\tip daddr 192.0.2.1 xt match "tcp" xt match "comment" counter packets 0 bytes 0 drop', false],
    ['-A INPUT -p udp -m udp --dport 53 -j DROP', false],
    ['-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT', false],
    ['', false],
  ])('%s: %s', (rules, may) => expect(mayDrop(rules, WANTED)).toBe(may));

  test('of replies, source and ports count as well', () => {
    expect(mayDrop(`-A PREROUTING ${REPLIES} -j DROP`, REPLIES)).toBe(true);
    expect(mayDrop(`-A PREROUTING ${REPLIES.replace('10.0.0.1', '10.0.0.2')} -j DROP`, REPLIES)).toBe(false);
    expect(mayDrop(`-A PREROUTING ${REPLIES.replace('--sport 80', '--sport 81')} -j DROP`, REPLIES)).toBe(false);
  });
});

describe('of several protocols', () => {
  const [TCP, UDP] = ['tcp', 'udp'].map((name) => `-d 192.0.2.1/32 -p ${name} -m ${name} --dport 53`);
  test('a rule of one stands for none of another', () => {
    expect([TCP, UDP].map((wanted) => mayDrop(`-A PREROUTING ${UDP} -j DROP`, wanted))).toEqual([false, true]);
    expect([TCP, UDP].map((wanted) => mayDrop('\t\tip daddr 192.0.2.1 tcp dport 53 drop', wanted))).toEqual([true, false]);
    expect([TCP, UDP].map((wanted) => mayDrop('-A INPUT -i eth0 -j DROP', wanted))).toEqual([true, true]);
  });

  test('a frontend is taken by rules of its own', () => {
    const ours = countedBy(`-A PREROUTING ${UDP} -m comment --comment lb4 -j DROP\n`);
    expect([tcp, udp].map((protocol) => isTaken(ours, addressOf('192.0.2.1:53'), protocol))).toEqual([false, true]);
    expect(isTaken(ours, addressOf('0.0.0.0:53'), udp)).toBe(true);
    expect(isTaken(ours, addressOf('192.0.2.2:53'), udp)).toBe(false);
  });
});
