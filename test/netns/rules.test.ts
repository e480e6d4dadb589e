import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { tcp } from '../../src/flow/tcp.ts';
import { renderBalancerScript } from '../../src/rules/render.ts';
import { CLIENTS, type RulesInput } from '../../src/rules/types.ts';

const small: RulesInput = {
  mode: 'passthrough',
  frontends: [
    { address: '192.0.2.1', port: 80, protocol: tcp },
    { address: '192.0.2.2', port: 443, protocol: tcp },
  ],
  returns: [
    { server: '198.51.100.1', serverPort: 8080, source: '192.0.2.1', protocol: tcp },
    { server: '198.51.100.2', serverPort: 8080, source: '192.0.2.2', protocol: tcp },
  ],
};

const udp = { name: 'udp', number: 17 };
/** Of datagrams; its servers answer their clients. */
const datagrams: RulesInput = {
  mode: 'passthrough',
  frontends: [{ address: '192.0.2.1', port: 53, protocol: udp }],
  returns: [{ server: '198.51.100.1', serverPort: 53, source: CLIENTS, protocol: udp }],
};

const large: RulesInput = {
  mode: 'passthrough',
  frontends: Array.from({ length: 50 }, (_, i) => ({ address: '192.0.2.1', port: 1000 + i, protocol: tcp })),
  returns: Array.from({ length: 450 }, (_, i) => {
    return { server: `198.51.${i >> 8}.${i & 255}`, serverPort: 80, source: '192.0.2.1', protocol: tcp };
  }),
};

const reserved = '/proc/sys/net/ipv4/ip_local_reserved_ports';
/** Where the script keeps what was there before, as sh finds it. */
const state = '/run/lb4/netns-$(readlink /proc/self/ns/net | tr -dc 0-9)';
let namespace: string;
let directory: string;

beforeEach(() => {
  namespace = `lb4-rules-${process.pid}-${Math.random().toString(36).slice(2, 8)}`;
  execFileSync('ip', ['netns', 'add', namespace]);
  // The kernel gives a deleted namespace's inode number to the next one at once: whoever had it may have left a note.
  inside(`rm -rf ${state}`);
  directory = mkdtempSync(join(tmpdir(), 'lb4-rules-'));
});

afterEach(() => {
  // Nor is any state left for the next one.
  inside(`rm -rf ${state}; rmdir /run/lb4 2>/dev/null`);
  execFileSync('ip', ['netns', 'del', namespace]);
  rmSync(directory, { recursive: true });
});

interface Ran {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** A shell command inside the namespace, by nsenter: `ip netns exec` would remount /sys. */
function inside(command: string, env: Record<string, string> = {}): Ran {
  const args = [`--net=/run/netns/${namespace}`, 'sh', '-c', command];
  return spawnSync('nsenter', args, { encoding: 'utf8', env: { ...process.env, ...env } });
}

function must(command: string): string {
  const ran = inside(command);
  expect(ran.stderr + ran.status, command).toBe('0');
  return ran.stdout;
}

/** Everything that must come back byte for byte. Packet counters of chains and the dates are nobody's. */
function snapshot(): string {
  const save = `for c in iptables-nft-save iptables-legacy-save; do $c 2>/dev/null | sed '/^# /d; s/\\[[0-9:]*\\]//'; done`;
  return must(`nft list ruleset 2>/dev/null; ${save}; cat ${reserved}; ls -d ${state} 2>/dev/null || :`);
}

function stateFiles(): string {
  return must(`cat ${state}/* 2>/dev/null || :`);
}

describe.each(['iptables-nft', 'iptables-legacy'])('the balancer script by %s', (iptables) => {
  // iptables-legacy registers a table by looking at it, for the namespace's whole life: look before, too.
  beforeEach(() => {
    if (iptables === 'iptables-legacy') must('iptables-legacy -t raw -S');
  });

  function script(input: RulesInput, words: string): Ran {
    const file = join(directory, 'balancer.sh');
    writeFileSync(file, renderBalancerScript(input));
    return inside(`sh ${file} ${words}`, { LB4_IPTABLES: iptables });
  }

  function ok(input: RulesInput, words: string): string {
    const ran = script(input, words);
    expect(ran.stderr + ran.status, words).toBe('0');
    return ran.stdout;
  }

  function ourRules(): string[] {
    const lines = must(`${iptables} -t raw -S PREROUTING 2>/dev/null`).split('\n');
    return lines.filter((line) => line.includes('--comment lb4 ')).sort();
  }

  test('installs, installs again, shows, removes, removes again, and leaves no trace', () => {
    const before = snapshot();
    ok(small, 'install');
    expect(ourRules()).toHaveLength(4);
    expect(must(`cat ${reserved}`)).toBe('33768-61000\n');
    const installed = snapshot();
    ok(small, 'install');
    expect(snapshot()).toBe(installed);
    const shown = ok(small, 'status').trim().split('\n');
    expect(shown).toHaveLength(6);
    expect(shown.every((line) => line.startsWith('present '))).toBe(true);
    ok(small, 'remove');
    expect(snapshot()).toBe(before);
    expect(stateFiles()).toBe('');
    ok(small, 'remove');
    expect(snapshot()).toBe(before);
    expect(script(small, 'status').status).toBe(3);
  });

  test.each([
    [
      'own rules and ports',
      `${iptables} -t raw -A PREROUTING -p tcp --dport 22 -j ACCEPT
       ${iptables} -t raw -A PREROUTING -s 203.0.113.9 -m comment --comment "not lb4" -j DROP
       echo 8080,40000-40010,61000-61005 >${reserved}`,
    ],
    ['an own chain elsewhere in the table', `${iptables} -t raw -A OUTPUT -p tcp --dport 22 -j ACCEPT`],
    ['an own empty table', `${iptables} -t raw -A PREROUTING -p tcp -j ACCEPT; ${iptables} -t raw -F`],
    ['the whole range reserved', `echo 30000-65535 >${reserved}`],
  ])('gives back %s byte for byte', (_, setup) => {
    must(setup);
    const before = snapshot();
    ok(small, 'install');
    expect(ok(small, 'status')).not.toContain('missing');
    ok(small, 'install');
    ok(small, 'remove');
    expect(snapshot()).toBe(before);
    ok(small, 'remove');
    expect(snapshot()).toBe(before);
  });

  test('keeps what the user changed while it was installed', () => {
    snapshot();
    ok(small, 'install');
    must(`echo 8080,33768-61000 >${reserved}; ${iptables} -t raw -A PREROUTING -p tcp --dport 22 -j ACCEPT`);
    ok(small, 'remove');
    expect(must(`cat ${reserved}`)).toBe('8080\n');
    expect(must(`${iptables} -t raw -S PREROUTING`)).toContain('--dport 22 -j ACCEPT');
  });

  test('install replaces the rules of another configuration, and doubled ones', () => {
    const before = snapshot();
    ok(small, 'install');
    must(`${iptables} -t raw -A ${ourRules()[0]?.replace('-A ', '') ?? ''}`);
    expect(ok(small, 'status')).toContain('stale ');
    ok({ ...small, frontends: small.frontends.slice(1) }, 'install');
    expect(ourRules()).toHaveLength(3);
    ok({ ...small, mode: 'dsr' }, 'install');
    expect(ourRules()).toHaveLength(2);
    expect(must(`cat ${reserved}`)).toBe('\n');
    expect(ok({ ...small, mode: 'dsr' }, 'status')).not.toContain('reserved');
    ok({ ...small, frontends: [], returns: [] }, 'remove');
    expect(snapshot()).toBe(before);
  });

  test.each(['1/2', '2/2'])('mends the table lb4_untracked where its rule %s is gone', (part) => {
    ok(small, 'install');
    const listed = must('nft -a list table ip lb4_untracked');
    const [, handle = ''] = new RegExp(`"lb4 \\d+ ${part}" # handle (\\d+)`).exec(listed) ?? [];
    must(`nft delete rule ip lb4_untracked output handle ${handle}`);
    expect(script(small, 'status')).toMatchObject({ status: 3, stdout: expect.stringMatching(/^missing nft table ip lb4_untracked$/m) });
    ok(small, 'install');
    expect(ok(small, 'status')).toMatch(/^present nft table ip lb4_untracked$/m);
    ok(small, 'remove');
  });

  test('mends what a user took away', () => {
    ok(small, 'install');
    must(`${iptables} -t raw -D ${ourRules()[0]?.replace('-A ', '') ?? ''}; echo >${reserved}`);
    const shown = script(small, 'status');
    expect(shown.status).toBe(3);
    expect(shown.stdout.match(/^missing /gm)).toHaveLength(2);
    ok(small, 'install');
    expect(ok(small, 'status')).not.toContain('missing');
    ok(small, 'remove');
    expect(must(`cat ${reserved}`)).toBe('\n');
  });

  test('a rule of somebody else that lets pass what ours are to drop is told, and install puts ours above it again', () => {
    ok(small, 'install');
    const harmless = ['-p udp -j ACCEPT', '-p tcp -m tcp --dport 22 -j ACCEPT', '-d 192.0.2.7/32 -j ACCEPT', '-s 203.0.113.0/24 -j DROP'];
    for (const rule of harmless) must(`${iptables} -t raw -I PREROUTING ${rule}`);
    expect(ok(small, 'status')).not.toContain('shadowed');
    const shadows = [
      '-j ACCEPT',
      '-p tcp -m tcp --dport 80:90 -j RETURN',
      '-d 192.0.2.0/30 -j ACCEPT',
      '-s 198.51.100.2/32 -p tcp -j ACCEPT',
      '-i eth9 -j ACCEPT',
    ];
    for (const rule of shadows) {
      must(`${iptables} -t raw -I PREROUTING ${rule}`);
      const shown = script(small, 'status');
      expect(shown.status, rule).toBe(3);
      expect(shown.stdout.match(/^shadowed by .*$/gm)).toEqual([`shadowed by ${rule}`]);
      ok(small, 'install');
      expect(ok(small, 'status')).not.toContain('shadowed');
      expect(ourRules()).toHaveLength(4);
    }
    ok(small, 'remove');
    const left = must(`${iptables} -t raw -S PREROUTING`).trim().split('\n').slice(1);
    expect(left.map((line) => line.replace('-A PREROUTING ', ''))).toEqual([...harmless, ...shadows].reverse());
  });

  test('remove undoes what a crash in the middle of install left', () => {
    const before = snapshot();
    ok(small, 'install');
    must(`${iptables} -t raw -D ${ourRules()[0]?.replace('-A ', '') ?? ''}`);
    ok(small, 'remove');
    expect(snapshot()).toBe(before);
    must(`mkdir -p ${state}; echo 33768-61000 >${state}/reserved-ports`); // noted, not yet done
    ok(small, 'remove');
    expect(snapshot()).toBe(before);
  });

  test('--dry-run says what would be done and changes nothing', () => {
    const before = snapshot();
    const said = ok(small, 'install --dry-run');
    expect(said.match(/^-I PREROUTING /gm)).toHaveLength(4);
    expect(said).toContain('ip_local_reserved_ports = 33768-61000');
    expect(snapshot()).toBe(before);
    ok(small, 'install');
    const installed = snapshot();
    expect(ok(small, '--dry-run remove').match(/^-D PREROUTING /gm)).toHaveLength(4);
    expect(snapshot()).toBe(installed);
  });

  /** Thirty datagrams of 4,000 bytes to its frontend: the bytes of their fragments that the kernel keeps. */
  function kept(): number {
    must(`ip link set lo up mtu 1500; ip address replace 192.0.2.1/32 dev lo`);
    must(`bash -c 'for i in $(seq 30); do head -c 4000 /dev/zero >/dev/udp/192.0.2.1/53; done'`);
    return Number(/^FRAG: .*memory (\d+)$/m.exec(must('cat /proc/net/sockstat'))?.[1]);
  }

  test.each([
    ['raw', datagrams],
    ['input', { ...datagrams, form: { name: 'input', why: 'frames of br0 pass iptables' } }],
  ] as const)('leaves no fragments behind in the form %s', (_, input) => {
    if (iptables === 'iptables-legacy') must('iptables-legacy -t mangle -S');
    const before = snapshot();
    ok(input, 'install');
    const installed = snapshot();
    ok(input, 'install');
    expect(snapshot()).toBe(installed);
    expect(ok(input, 'status')).toMatch(/^present -s 255\.255\.255\.255\/32 -m socket /m);
    expect(kept()).toBe(0);
    must(`${iptables} -t raw -D PREROUTING -s 255.255.255.255/32 -m socket -m comment --comment lb4 -j DROP`);
    expect(script(input, 'status')).toMatchObject({ status: 3, stdout: expect.stringMatching(/^missing -s 255\..* -m socket /m) });
    ok(input, 'install');
    ok(input, 'remove');
    expect(snapshot()).toBe(before);
    expect(stateFiles()).toBe('');
  });

  test('where the kernel cannot have fragments put together, the other rules stand, and that is told until they are taken away', () => {
    const before = snapshot();
    const lacking = join(directory, 'lacking');
    const wrap = (suffix: string, body: string) => writeFileSync(lacking + suffix, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    wrap('', `exec ${iptables} "$@"`);
    wrap('-save', `exec ${iptables}-save "$@"`);
    wrap('-restore', `sed 's/-m socket/-m nosuch/' | ${iptables}-restore "$@"`);
    const file = join(directory, 'balancer.sh');
    writeFileSync(file, renderBalancerScript(datagrams));
    const run = (words: string) => inside(`sh ${file} ${words}`, { LB4_IPTABLES: lacking });
    const told = { status: 0, stderr: expect.stringMatching(/^lb4 rules: warning: this kernel has no xt_socket .*\n$/) };
    expect(run('install')).toMatchObject(told);
    expect(ourRules()).toHaveLength(2);
    const installed = snapshot();
    expect(run('install')).toMatchObject(told);
    expect(snapshot()).toBe(installed);
    expect(run('status')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^refused -s \S+ -m socket: this kernel has no xt_socket/m),
    });
    expect(run('remove')).toMatchObject({ status: 0, stderr: '' });
    expect(snapshot()).toBe(before);
    expect(stateFiles()).toBe('');
  });

  const inInput: RulesInput = { ...small, form: { name: 'input', why: 'frames of br0 pass iptables' } };

  /** A rule that was put back stands above the others. */
  const sorted = (text: string) => text.split('\n').sort().join('\n');

  function inputDrops(): number {
    return must(`${iptables}-save`).match(/^-A INPUT .*--comment lb4 -j DROP$/gm)?.length ?? 0;
  }

  test('the form input: installs, takes the place of the form raw and gives it back, and leaves no trace of either', () => {
    if (iptables === 'iptables-legacy') must('iptables-legacy -t mangle -S');
    const before = snapshot();
    ok(small, 'install');
    const raw = snapshot();
    expect(ok(inInput, 'install')).toBe('');
    expect(ourRules().every((rule) => rule.endsWith('-j CT --notrack'))).toBe(true);
    expect([ourRules().length, inputDrops()]).toEqual([4, 4]);
    expect(ok(inInput, 'status')).toMatch(/^form input: frames of br0 pass iptables\n(present .*\n){10}$/);
    const input = snapshot();
    ok(inInput, 'install');
    expect(snapshot()).toBe(input);
    must(`${iptables} -t mangle -D INPUT -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -m comment --comment lb4 -j DROP`);
    expect(script(inInput, 'status').status).toBe(3);
    ok(inInput, 'install');
    expect(inputDrops()).toBe(4);
    ok(small, 'install');
    expect(sorted(snapshot())).toBe(sorted(raw));
    ok(inInput, 'install');
    // As `lb4 rules --remove` does, which knows no form.
    ok(small, 'remove');
    expect(snapshot()).toBe(before);
    expect(stateFiles()).toBe('');
  });

  test('when the form changes, the new rules stand before the old ones go', () => {
    const steps = (said: string) => said.match(/^(\*\w+|-[ID] \w+)/gm)?.filter((step, at, all) => step !== all[at - 1]);
    ok(small, 'install');
    expect(steps(ok(inInput, 'install --dry-run'))).toEqual(['*mangle', '-I INPUT', '*raw', '-D PREROUTING', '-I PREROUTING']);
    ok(inInput, 'install');
    expect(steps(ok(small, 'install --dry-run'))).toEqual(['*raw', '-D PREROUTING', '-I PREROUTING', '*mangle', '-D INPUT']);
    ok(small, 'remove');
  });

  test('an ACCEPT above the rules of either table is told, and they move above it', () => {
    ok(inInput, 'install');
    must(`${iptables} -t mangle -I INPUT -p tcp --dport 80 -j ACCEPT; ${iptables} -t raw -I PREROUTING -p tcp --dport 443 -j ACCEPT`);
    expect(script(inInput, 'status').stdout.match(/^shadowed by .*/gm)).toEqual([
      'shadowed by -p tcp -m tcp --dport 443 -j ACCEPT',
      'shadowed by mangle INPUT -p tcp -m tcp --dport 80 -j ACCEPT',
    ]);
    ok(inInput, 'install');
    expect(ok(inInput, 'status')).not.toContain('shadowed');
    ok(inInput, 'remove');
    expect(must(`${iptables}-save`)).toMatch(/-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT/);
  });

  test('a change of form that fails half-way is taken back', () => {
    if (iptables === 'iptables-legacy') must('iptables-legacy -t mangle -S');
    ok(small, 'install');
    const before = snapshot();
    const broken = join(directory, 'broken');
    const wrap = (suffix: string, body: string) => writeFileSync(broken + suffix, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    wrap('', `exec ${iptables} "$@"`);
    wrap('-save', `exec ${iptables}-save "$@"`);
    // The kernel refuses the rules of raw, once those of mangle stand.
    wrap('-restore', `sed 's/-I PREROUTING .* CT .*/-I PREROUTING -j NOSUCH/' | ${iptables}-restore "$@"`);
    const file = join(directory, 'balancer.sh');
    writeFileSync(file, renderBalancerScript(inInput));
    const ran = inside(`sh ${file} install`, { LB4_IPTABLES: broken });
    expect(ran.status).toBe(1);
    expect(snapshot()).toBe(before);
    ok(small, 'remove');
  });

  test('five hundred rules in one transaction', () => {
    // Beside tables of iptables-legacy, iptables-nft-save prints a warning, here in the middle of a rule.
    must('iptables-legacy -t filter -S');
    const before = snapshot();
    const counted = join(directory, 'counted');
    for (const tool of ['', '-save', '-restore'])
      writeFileSync(counted + tool, `#!/bin/sh\necho '${tool}' >>${counted}.calls\nexec ${iptables}${tool} "$@"\n`, { mode: 0o755 });
    const file = join(directory, 'balancer.sh');
    writeFileSync(file, renderBalancerScript(large));
    expect(inside(`sh ${file} install`, { LB4_IPTABLES: counted })).toMatchObject({ status: 0 });
    const calls = readFileSync(`${counted}.calls`, 'utf8').split('\n').slice(0, -1);
    expect(calls.filter((tool) => tool === '-restore')).toHaveLength(1);
    expect(calls.length).toBeLessThan(10);
    expect(ourRules()).toHaveLength(500);
    expect(ok(large, 'status')).not.toContain('missing');
    ok(large, 'remove');
    expect(snapshot()).toBe(before);
  });

  test('a failing transaction leaves nothing, and says why in one line', () => {
    const before = snapshot();
    const broken = join(directory, 'broken');
    const wrap = (suffix: string, body: string) => writeFileSync(broken + suffix, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    wrap('', `exec ${iptables} "$@"`);
    wrap('-save', `exec ${iptables}-save "$@"`);
    wrap('-restore', `sed 's/^COMMIT/-A PREROUTING -j NOSUCH\\nCOMMIT/' | ${iptables}-restore "$@"`);
    const file = join(directory, 'balancer.sh');
    writeFileSync(file, renderBalancerScript(small));
    const ran = inside(`sh ${file} install`, { LB4_IPTABLES: broken });
    expect(ran.status).toBe(1);
    expect(ran.stderr).toMatch(/^lb4 rules: .*restore: .+\n$/);
    expect(snapshot()).toBe(before);
  });
});

test('by iptables-legacy, status and remove do not create the table by looking', () => {
  const file = join(directory, 'balancer.sh');
  writeFileSync(file, renderBalancerScript(small));
  const legacy = { LB4_IPTABLES: 'iptables-legacy' };
  expect(inside(`sh ${file} status`, legacy).status).toBe(3);
  expect(inside(`sh ${file} remove`, legacy).status).toBe(0);
  expect(must('cat /proc/net/ip_tables_names')).not.toContain('raw');
});

test('by iptables-nft, a table that it cannot read is a failure: ours would seem to be missing, and be added again and again', () => {
  const file = join(directory, 'balancer.sh');
  writeFileSync(file, renderBalancerScript(small));
  must(`sh ${file} install; nft insert rule ip raw PREROUTING fib saddr type local numgen random mod 2 0 accept`);
  const before = must('nft list ruleset 2>/dev/null');
  for (const words of ['status', 'install']) {
    expect(inside(`sh ${file} ${words}`), words).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^lb4 rules: the raw table has rules that nft/),
    });
  }
  expect(must('nft list ruleset 2>/dev/null')).toBe(before);
});

test('a state file of an earlier namespace with the same inode does no harm', () => {
  const file = join(directory, 'balancer.sh');
  writeFileSync(file, renderBalancerScript(small));
  must(`d=${state}; mkdir -p $d; echo 33768-61000 >$d/reserved-ports; echo table >$d/raw-table`);
  must(`nft add table ip raw; echo 40000 >${reserved}`);
  must(`sh ${file} install && sh ${file} remove`);
  expect(must(`cat ${reserved}`)).toBe('40000\n');
  expect(must('nft list ruleset')).toBe('table ip raw {\n}\n');
});

test('what somebody else adds at the last moment stays: a rule, a chain of the table, and a rule in the table of lb4 itself', () => {
  const file = join(directory, 'balancer.sh');
  writeFileSync(file, renderBalancerScript(small));
  // Just behind the look that finds nothing of others'.
  const late = (add: string) => {
    writeFileSync(
      join(directory, 'nft'),
      `#!/bin/sh\nPATH=\${PATH#*:}\nnft "$@"\ncode=$?\n[ "$*" != 'list table ip raw' ] || ${add}\nexit $code\n`,
      { mode: 0o755 },
    );
    return inside(`PATH=${directory}:$PATH sh ${file} remove`);
  };
  must(`sh ${file} install`);
  expect(late('iptables-nft -t raw -A PREROUTING -p tcp --dport 22 -j ACCEPT')).toMatchObject({ status: 0, stderr: '' });
  expect(must('iptables-nft-save -t raw')).toMatch(/^-A PREROUTING -p tcp .*--dport 22 -j ACCEPT$/m);
  must(`nft delete table ip raw; sh ${file} install`);
  expect(late('iptables-nft -t raw -A OUTPUT -p tcp --dport 22 -j ACCEPT')).toMatchObject({ status: 0, stderr: '' });
  expect(must('iptables-nft-save -t raw')).toMatch(/^-A OUTPUT -p tcp .*--dport 22 -j ACCEPT$/m);

  must(`sh ${file} install; nft add rule ip lb4_untracked output udp dport 9 accept`);
  expect(inside(`sh ${file} remove`)).toMatchObject({
    status: 0,
    stderr:
      "lb4 rules: warning: table ip lb4_untracked stays, without lb4's rules: it has something that is not lb4's: udp dport 9 accept\n",
  });
  expect(must('nft list table ip lb4_untracked')).toMatch(/^(?![^]*notrack)[^]*udp dport 9 accept/);
  expect(inside(`sh ${file} install`).stderr).toMatch(/is made anew, and what is not lb4's goes: udp dport 9 accept\n$/);
  must(`sh ${file} remove`);
});

test('without root it says so and exits 77', () => {
  const file = join(directory, 'balancer.sh');
  writeFileSync(file, renderBalancerScript(small));
  const ran = inside(`setpriv --reuid=65534 --clear-groups sh -s status <${file}`);
  expect(ran).toMatchObject({ status: 77, stderr: 'lb4 rules: needs root (CAP_NET_ADMIN and CAP_NET_RAW)\n' });
});

test('root without the capability exits 77 too', () => {
  const file = join(directory, 'balancer.sh');
  writeFileSync(file, renderBalancerScript(small));
  const ran = inside(`setpriv --bounding-set=-net_admin --inh-caps=-net_admin sh -s install <${file}`);
  expect(ran.status).toBe(77);
  expect(ran.stderr).toBe('lb4 rules: needs root (CAP_NET_ADMIN and CAP_NET_RAW)\n');
});

test('a usage mistake exits 2', () => {
  const file = join(directory, 'balancer.sh');
  writeFileSync(file, renderBalancerScript(small));
  for (const words of ['', 'frob', 'install remove', '--dry-run', 'install --force']) {
    expect(inside(`sh ${file} ${words}`).status, words).toBe(2);
  }
});

test('the template and the filled-in script pass shellcheck', () => {
  const template = join(import.meta.dirname, '../../iptables/balancer.sh');
  const file = join(directory, 'balancer.sh');
  writeFileSync(file, renderBalancerScript(small));
  expect(execFileSync('shellcheck', ['-s', 'sh', template, file], { encoding: 'utf8' })).toBe('');
});
