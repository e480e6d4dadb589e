/** Configurations of HAProxy and IPVS as lb4's: what comes of them, and that nothing is dropped silently. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { importCommand } from '../../src/cli/import-command.ts';
import { parseConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/model.ts';
import { ConfigError } from '../../src/errors.ts';
import { importHaproxy } from '../../src/import/haproxy.ts';
import { importIpvsadm } from '../../src/import/ipvsadm.ts';

const SAMPLES = [
  { file: 'kubeadm.cfg', importer: importHaproxy, mode: 'proxy' },
  { file: 'databases.cfg', importer: importHaproxy, mode: 'proxy' },
  { file: 'keepalived.ipvs', importer: importIpvsadm, mode: 'dsr' },
  { file: 'kube-proxy.ipvs', importer: importIpvsadm, mode: 'passthrough' },
] as const;

const fixture = (file: string) => new URL(`../fixtures/import/${file}`, import.meta.url);

describe.each(SAMPLES)('$file', ({ file, importer, mode }) => {
  const text = readFileSync(fixture(file), 'utf8');

  test('becomes a file that lb4 check passes', async () => {
    const result = importer(text, file);
    expect(result.mode).toBe(mode);
    expect(parseConfig(result.toml, file, { mode }).warnings).toEqual([]);
    await expect(result.toml).toMatchFileSnapshot(`../fixtures/import/${file}.toml`);
  });

  // Without a line the result is another one: its value is there, or what is told of it. What HAProxy does anyway makes no difference.
  const lines = text
    .split('\n')
    .flatMap((line, i) => (/^\s*(#.*|mode tcp|mode +http|balance +roundrobin)?$/.test(line) ? [] : [{ line, i }]));
  test('no line of it is passed over', () => {
    const { toml } = importer(text, file);
    const idle = lines.filter(({ i }) => {
      const without = text.split('\n').with(i, '').join('\n');
      return resultOf(() => importer(without, file).toml) === toml;
    });
    expect(idle.map(({ line }) => line.trim())).toEqual([]);
    expect(lines.length).toBeGreaterThan(6);
  });
});

function resultOf(make: () => string): string {
  try {
    return make();
  } catch (error) {
    return String(error);
  }
}

const HEAD = 'listen web\n bind 192.0.2.1:80\n';

function haproxy(text: string): { config: Config; lost: string[] } {
  const { toml, lost } = importHaproxy(text, 'haproxy.cfg');
  return { config: parseConfig(toml, 'lb4.toml').config, lost: lost.map(({ line, text, why }) => `${line}: ${text}: ${why}`) };
}

describe('haproxy', () => {
  test('words: quotes, escapes and comments', () => {
    const { config } = haproxy(`${HEAD} option httpchk GET '/a b'"c"\\ d # not this\n server s 10.0.0.1:80 check`.replace('/a b', '/ab'));
    expect(config.backends[0]?.healthCheck.http.path).toBe('/');
    const { lost } = haproxy(`${HEAD} option httpchk GET "/a b"\n server s 10.0.0.1:80 check`);
    expect(lost).toEqual([expect.stringMatching(/^3: option httpchk GET \/a b: health_check_path: "\/a b" is not a path/)]);
  });

  test.each([
    ['100', 100],
    ['100ms', 100],
    ['2s', 2000],
    ['1m', 60_000],
    ['500000us', 500],
  ])('a time of %s', (text, ms) => {
    const { config, lost } = haproxy(`${HEAD} timeout connect ${text}\n server s 10.0.0.1:80 check`);
    expect([config.backends[0]?.connectTimeoutMs, lost]).toEqual([ms, []]);
  });

  test.each([
    ['*:80', ['0.0.0.0:80']],
    [':80', ['0.0.0.0:80']],
    [':::80', ['[::]:80']],
    [':::80 v4v6', ['[::]:80', '0.0.0.0:80']],
    ['[2001:db8::1]:80', ['[2001:db8::1]:80']],
    ['ipv6@:80', ['[::]:80']],
    ['192.0.2.1:80,192.0.2.2:81', ['192.0.2.1:80', '192.0.2.2:81']],
  ])('bind %s', (bind, listens) => {
    const { config, lost } = haproxy(`listen web\n bind ${bind}\n server s 10.0.0.1:80 check`);
    expect([config.frontends.map(({ listen }) => listen.text), lost]).toEqual([listens, []]);
  });

  test.each(['/run/x.sock', 'fd@3', '192.0.2.1:80-90', 'abns@x'])('bind %s is told', (bind) => {
    const { lost } = haproxy(`${HEAD} bind ${bind}\n server s 10.0.0.1:80 check`);
    expect(lost).toEqual([expect.stringMatching(/^3: bind .*: is no address and port$/)]);
  });

  test('what is out of range is told with what is allowed, and the rest stays', () => {
    const { config, lost } = haproxy(`${HEAD} timeout connect 10m\n retries 1000\n server s 10.0.0.1:80 check weight 5`);
    expect(config.backends[0]?.servers[0]?.weight).toBe(5);
    expect(lost).toEqual([
      expect.stringMatching(/^3: timeout connect 10m: connect_timeout: 600 is too large; allowed/),
      expect.stringMatching(/^4: retries 1000: retries: 1000 is too large; allowed/),
    ]);
  });

  test('a server without a port has that of its only frontend', () => {
    expect(haproxy(`${HEAD} server s 10.0.0.1 check`).config.backends[0]?.servers[0]?.addr.text).toBe('10.0.0.1:80');
    expect(haproxy(`${HEAD} bind 192.0.2.1:81\n server s 10.0.0.1 check`).lost).toEqual([expect.stringMatching(/needs a port/)]);
  });

  test('servers that want TLS get no plain text', () => {
    const { config, lost } = haproxy(`${HEAD} server s 10.0.0.1:443 ssl verify none check\n server t 10.0.0.2:80 check`);
    expect(config.backends[0]?.servers.map(({ name }) => name)).toEqual(['t']);
    expect(lost).toEqual([expect.stringMatching(/^3: .*does not speak TLS/)]);
  });

  test('default-server, its defaults, and what undoes it', () => {
    const { config } = haproxy(
      `defaults\n default-server check inter 3s backup\n${HEAD} server s 10.0.0.1:80\n server t 10.0.0.2:80 no-backup inter 3s`,
    );
    expect(config.backends[0]).toMatchObject({
      healthCheck: { intervalMs: 3000, rise: 2, fall: 3 },
      servers: [{ backup: true }, { backup: false }],
    });
  });

  test('default-server is for the servers below it', () => {
    const { config } = haproxy(`${HEAD} server s 10.0.0.1:80 check\n default-server weight 7\n server t 10.0.0.2:80 check`);
    expect(config.backends[0]?.servers.map(({ weight }) => weight)).toEqual([1, 7]);
  });

  describe('check port', () => {
    const of = (...ports: string[]) => {
      const lines = ports.map((port, i) => ` server s${i} 10.0.0.${i + 1}:80 ${port}\n`).join('');
      const { config, lost } = haproxy(`${HEAD} option httpchk GET /up\n${lines}`);
      const { type, port } = config.backends[0]?.healthCheck ?? {};
      return [type, port, lost];
    };

    test('is health_check_port, where all that are checked have the same', () => {
      expect(of('check port 8080', 'check port 8080')).toEqual(['http', 8080, []]);
      expect(of('check port 8080', '')).toEqual(['http', 8080, [expect.stringMatching(/^5: server s1 without check/)]]);
    });

    test.each(['check port 8081', 'check'])('and else told: another server has %s', (other) => {
      const [type, port, lost] = of('check port 8080', other);
      expect([type, port]).toEqual(['tcp', undefined]);
      expect(lost).toContain('4: server s0 … port 8080: a backend has one health_check_port: each server is checked at its own instead');
      expect(lost).toContainEqual(
        expect.stringMatching(/^3: option httpchk GET \/up: .*one port of all: it checks by a TCP connect instead/),
      );
    });
  });

  test('no-check-ssl undoes default-server, and undoing what nobody said is nothing', () => {
    const { config, lost } = haproxy(
      `${HEAD} option httpchk GET /\n default-server check-ssl\n server s 10.0.0.1:80 check no-check-ssl no-backup no-ssl`,
    );
    expect(config.backends[0]?.healthCheck.type).toBe('http');
    expect(lost).toEqual([expect.stringMatching(/^4: default-server check-ssl: check-ssl: lb4 has nothing like it$/)]);
  });

  describe('what cannot be read is told', () => {
    test.each([
      ['weight "${W}"', 'weight ${W}'],
      ['maxconn "$M"', 'maxconn $M'],
      ['inter "${I}"', 'inter ${I}'],
      ['slowstart "${S}"', 'slowstart ${S}'],
      ['rise "${R}" fall 3', 'rise ${R}'],
      ['port "${P}"', 'port ${P}'],
    ])('server … %s, default-server %s', (given, told) => {
      const own = haproxy(`${HEAD} server s 10.0.0.1:80 check ${given}`).lost;
      expect(own).toEqual([`3: server s … ${told}: lb4 takes no values from the environment: write it out`]);
      const { lost } = haproxy(`${HEAD} default-server ${given}\n server s 10.0.0.1:80 check`);
      expect(lost).toEqual([expect.stringContaining(`: ${told}: lb4 takes no values from the environment: write it out`)]);
    });

    test.each([
      [' bind 192.0.2.2:80 maxconn "${MAX}"', /^4: bind … maxconn \$\{MAX\}: lb4 takes no values from the environment/],
      [' bind 192.0.2.2:80 maxconn', /^4: bind … maxconn: is not understood/],
      [' bind "${VIP}:80"', /^4: bind \$\{VIP\}:80: lb4 takes no values from the environment/],
      [' server t 10.0.0.2:80 check weight', /^4: server t … weight: is not understood/],
      [' balance random(4)', /^4: balance random\(4\): lb4's random draws two servers, not 4/],
      [' balance "${B}"', /^4: balance \$\{B\}: lb4 takes no values from the environment/],
      [' timeout client "${T}"', /^4: timeout client \$\{T\}: .*environment: write it out; what line 2 says stays$/],
      [' retries many', /^4: retries many: is not understood; it is left out$/],
      [' option httpchk GET "/${P}"', /^4: option httpchk GET \/\$\{P\}: .*environment.*TCP connect instead$/],
    ])('%s', (line, told) => {
      const { lost } = haproxy(
        `defaults\n timeout client 5s\n${HEAD.replace(/\n.*\n/, '\n')}${line}\n bind 192.0.2.1:80\n server s 10.0.0.1:80 check`,
      );
      expect(lost).toEqual([expect.stringMatching(told)]);
    });

    test('random(2) is what lb4 does', () => {
      expect(haproxy(`${HEAD} balance random(2)\n server s 10.0.0.1:80 check`).lost).toEqual([]);
    });
  });

  test('defaults by name', () => {
    const { config } = haproxy(
      `defaults a\n timeout client 5s\ndefaults b\n timeout client 6s\nfrontend f from a\n bind 192.0.2.1:80\n default_backend b\nbackend b\n server s 10.0.0.1:80 check`,
    );
    expect(config.frontends[0]?.clientTimeoutMs).toBe(5000);
  });

  describe('what HAProxy lets win', () => {
    const TWO = 'backend b\n server s 10.0.0.1:80 check\nbackend c\n server s 10.0.0.2:80 check\n';
    const routed = (rules: string, head = 'frontend f') => {
      const { config, lost } = haproxy(`${head}\n bind 192.0.2.1:80\n${rules}${TWO}`);
      return [config.frontends[0]?.backend.name, lost] as const;
    };

    test('a use_backend without a condition goes before default_backend, wherever it stands', () => {
      const told = /default_backend c: use_backend b takes every connection of f$/;
      expect(routed(' use_backend b\n default_backend c\n')).toEqual(['b', [expect.stringMatching(told)]]);
      expect(routed(' default_backend c\n use_backend b\n')).toEqual(['b', [expect.stringMatching(told)]]);
      expect(routed(' use_backend b if TRUE\n')).toEqual(['b', []]);
    });

    test('the first of them counts, and those with a condition or a name out of contents are told', () => {
      expect(routed(' use_backend c if x\n use_backend %[src,map(m)]\n use_backend b\n use_backend c\n')).toEqual([
        'b',
        [
          expect.stringMatching(/^3: .*does not look into/),
          expect.stringMatching(/^4: .*does not look into/),
          expect.stringMatching(/^6: use_backend c: use_backend b stands before it/),
        ],
      ]);
    });

    test('a listen sends its connections where they say, not to its own servers', () => {
      const own = ' server own 10.0.0.9:80 check\n';
      const told = [expect.stringMatching(/_backend b: takes every connection of l, whose own servers get none$/)];
      expect(routed(` default_backend b\n${own}`, 'listen l')).toEqual(['b', told]);
      expect(routed(` use_backend b\n${own}`, 'listen l')).toEqual(['b', told]);
    });
  });

  describe('timeout tunnel', () => {
    const text = (where: string) => `defaults\n timeout client 5s\n timeout server 6s\n${where}`;
    test('of a backend takes the place of its own and of its frontends', () => {
      const { config, lost } = haproxy(
        text('frontend f\n bind 192.0.2.1:80\n default_backend b\nbackend b\n timeout tunnel 1h\n server s 10.0.0.1:80 check'),
      );
      expect([config.frontends[0]?.clientTimeoutMs, config.backends[0]?.serverTimeoutMs]).toEqual([3_600_000, 3_600_000]);
      expect(lost).toEqual([
        '2: timeout client 5s: timeout tunnel (line 8) takes its place',
        '3: timeout server 6s: timeout tunnel (line 8) takes its place',
      ]);
    });

    test('of a frontend is none', () => {
      const { config, lost } = haproxy(
        text('frontend f\n bind 192.0.2.1:80\n timeout tunnel 1h\n default_backend b\nbackend b\n server s 10.0.0.1:80 check'),
      );
      expect(config.frontends[0]?.clientTimeoutMs).toBe(5000);
      expect(lost).toEqual(['6: timeout tunnel 1h: has no effect in a frontend']);
    });
  });

  test.each([
    [5, 9, 5],
    [9, 5, 5],
    [0, 5, 5],
    [9, 0, 9],
  ])('of bind maxconn %i and maxconn %i counts %i', (bind, own, least) => {
    const { config } = haproxy(`listen web\n bind 192.0.2.1:80 maxconn ${bind}\n maxconn ${own}\n server s 10.0.0.1:80 check`);
    expect(config.frontends[0]?.maxconn).toBe(least);
  });

  test('conditions are told, also outside of sections', () => {
    const { lost } = haproxy(`.if defined(X)\n${HEAD}.else\n server s 10.0.0.1:80 check\n.endif`);
    expect(lost).toEqual(
      ['1: .if defined(X)', '4: .else', '6: .endif'].map((line) => expect.stringContaining(`${line}: lb4 decides nothing here`)),
    );
  });

  test('what defaults say is told once, for however many sections it is out of range', () => {
    const proxy = (port: number) => `listen l${port}\n bind 192.0.2.1:${port}\n server s 10.0.0.1:80 check\n`;
    const { lost } = haproxy(`defaults\n timeout client 0\n${proxy(80)}${proxy(81)}`);
    expect(lost).toEqual([expect.stringMatching(/^2: timeout client 0: client_timeout: 0 is too small/)]);
  });

  test('no slow start and no limit are nothing that servers or addresses could differ in', () => {
    const { config, lost } = haproxy(
      `${HEAD} bind 192.0.2.2:80\n maxconn 0\n server s 10.0.0.1:80 check slowstart 0\n server t 10.0.0.2:80 check`,
    );
    expect([config.backends[0]?.slowStartMs, lost]).toEqual([0, []]);
  });

  test.each(['constructor x', 'option constructor', 'timeout toString 1s', 'balance constructor', 'no option valueOf'])(
    '%s, which every object has, is no keyword',
    (line) => {
      const { lost } = haproxy(`${HEAD} ${line}\n server s 10.0.0.1:80`);
      expect(lost).toContainEqual(expect.stringContaining(line));
    },
  );

  describe('what undoes defaults', () => {
    const checked = (line: string) => {
      const { config, lost } = haproxy(
        `defaults\n option httpchk GET /up\n balance leastconn\n${HEAD} ${line}\n server s 10.0.0.1:80 check`,
      );
      return { lost, check: config.backends[0]?.healthCheck.type, balance: config.backends[0]?.balance };
    };

    test.each(['no option httpchk', 'default option httpchk'])('%s', (line) => {
      expect(checked(line)).toMatchObject({ check: 'tcp', lost: [] });
      expect(checked('no option tcp-check')).toMatchObject({ check: 'http', lost: [] });
    });

    test.each(['option mysql-check user haproxy', 'option ssl-hello-chk'])(
      '%s is another check, of which lb4 makes the connect',
      (line) => {
        expect(checked(line)).toMatchObject({ check: 'tcp', lost: [expect.stringMatching(/lb4 checks by a TCP connect/)] });
      },
    );

    test('a balance that lb4 has not leaves none of before', () => {
      expect(checked('balance uri')).toMatchObject({ balance: 'roundrobin', lost: [expect.stringMatching(/roundrobin instead$/)] });
    });

    test('what lb4 does all the same is told', () => {
      expect(checked('no option redispatch').lost).toEqual([expect.stringMatching(/lb4 tries another server/)]);
    });
  });

  test('more than a file may hold is told at once', () => {
    const many = Array.from(
      { length: 1025 },
      (_, i) => `listen l${i}\n mode tcp\n bind 10.0.${i >> 8}.${i & 255}:80\n server s 10.1.0.1:80\n`,
    );
    expect(() => importHaproxy(many.join(''), 'haproxy.cfg')).toThrow(/^haproxy\.cfg: 1,025 frontends come of it; allowed: at most 1,024$/);
  });

  test('where nothing that listens is left, all that is lost is told', () => {
    const make = () => importHaproxy('frontend a\n mode http\n bind *:80\n', 'haproxy.cfg');
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(/^haproxy\.cfg:1:1: frontend a: .*mode http[\s\S]*haproxy\.cfg: nothing of it that listens can be carried over$/);
    expect(() => importHaproxy('', 'empty')).toThrow('empty: nothing of it that listens can be carried over');
    expect(() => importHaproxy('{"no": "such file"}', 'x')).toThrow('x:1:1: {no: such file}: stands in no section');
  });
});

describe('ipvsadm', () => {
  const of = (text: string) => importIpvsadm(text, 'x');
  const service = (options: string) => `-A -t 192.0.2.1:80 ${options}\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 2\n`;
  test.each([
    ['', 'leastconn'],
    ['-s rr', 'roundrobin'],
    ['-s wlc', 'leastconn'],
    ['-s sh', 'source'],
    ['-s sh -b sh-port', 'maglev'],
    ['-s mh', 'source'],
    ['-s mh -b mh-port', 'maglev'],
    ['-s rr -p 300', 'roundrobin'],
    ['-s lblc', 'leastconn'],
    ['-s constructor', 'leastconn'],
  ])('%s', (options, balance) => expect(parseConfig(of(service(options)).toml, 'x').config.backends[0]?.balance).toBe(balance));

  test.each<[string, number | undefined, string[]]>([
    ['-s rr -p 600', 600, []],
    ['-s sh -p', 300, []],
    ['-s wlc --persistent 3000000', 604_800, ['-p 3000000']],
    ['-s rr -p 60 -M 255.255.255.255', 60, []],
    ['-s rr -p 60 -M 255.255.255.0', 60, ['-M 255.255.255.0']],
    ['-s rr -p 60 --netmask 255.255.255.0 -g', 60, ['-M 255.255.255.0']],
    ['-s sh -p 60 -g', undefined, ['-p 60']],
    ['-s rr', undefined, []],
  ])('persistence: %s', (options, seconds, lost) => {
    const isDirect = options.endsWith(' -g');
    const list = isDirect ? service(options.slice(0, -3)).replace(' -m ', ' -g ') : service(options);
    const found = of(list);
    expect(/^affinity = (\d+)$/m.exec(found.toml)?.slice(1).map(Number)[0]).toBe(seconds);
    expect(found.lost.map(({ text }) => text).filter((text) => text !== '-w 2')).toEqual(lost);
    parseConfig(found.toml, 'x', { mode: isDirect ? 'dsr' : 'passthrough' });
  });

  test('names, where -n was left out, are told', () => {
    expect(() => of('-A -t www:http -s rr\n-a -t www:http -r app:http -m -w 1\n')).toThrow(/-A -t www:http -s rr: listen_addr: "www:http"/);
  });

  test('UDP, whole flows or one packet after the other, beside TCP at the same address', () => {
    const udp = service('').replaceAll('-t ', '-u ');
    const { toml, lost } = of(
      `${service('')}${udp}${udp.replaceAll('192.0.2.1:80', '192.0.2.1:53').replace('-A -u 192.0.2.1:53', '$& -o')}`,
    );
    expect(lost).toEqual([]);
    const { frontends } = parseConfig(toml, 'x', { mode: 'passthrough' }).config;
    expect(frontends.map(({ listen, backend, udpPerPacket = false }) => [listen.text, backend.protocol.name, udpPerPacket])).toEqual([
      ['192.0.2.1:80', 'tcp', false],
      ['192.0.2.1:80', 'udp', false],
      ['192.0.2.1:53', 'udp', true],
    ]);
    expect(of(service('--ops')).lost).toMatchObject([{ why: 'lb4 has nothing like it' }]);
  });

  test('tunnels are DSR by IP in IP, and servers are asked by them', () => {
    const tcp = `${service('').replace('-m', '-i')}-a -t 192.0.2.1:80 -r 10.0.0.2:80 -i --tun-type gue -w 1\n`;
    const udp = service('').replaceAll('-t ', '-u ').replace('-m', '-i --tun-type ipip');
    const { toml, lost, mode } = of(`${tcp}-a -t 192.0.2.1:80 -r 10.0.0.3:80 -g -w 1\n${udp}`);
    expect(mode).toBe('dsr');
    expect(lost.map(({ line, why }) => `${line}: ${why}`)).toEqual([
      '3: its tunnel is no IP in IP: see dsr = "gue"',
      '4: -g is another way than that of most servers of this service, and a backend has one (dsr)',
    ]);
    const { backends } = parseConfig(toml, 'x', { mode }).config;
    expect(backends.map(({ dsr, servers, healthCheck: { type, also } }) => [dsr, servers.length, type, also])).toEqual([
      ['ipip', 1, 'ipip', ['tcp']],
      ['ipip', 1, 'ipip', ['udp']],
    ]);
    expect(toml).toContain('addresses already (ipvsadm -i)');
  });

  test('IPv6 needs proxy mode', () => {
    expect(() => of('-A -t [2001:db8::1]:80 -s rr\n-a -t [2001:db8::1]:80 -r [2001:db8::2]:80 -m -w 1\n')).toThrow(
      /IPv6 works in proxy mode only/,
    );
  });

  test.each([
    ['-w abc', 'is no whole number', 'weight = 1'],
    ['-w', 'is no whole number', 'weight = 1'],
    ['-w 1 -x many', 'is no whole number', 'weight = 1'],
    ['-w 1 -x -5', 'is no whole number', 'weight = 1'],
  ])('%s', (options, why, key) => {
    const { toml, lost } = of(`-A -t 192.0.2.1:80 -s wrr\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m ${options}\n`);
    expect(lost[0]).toMatchObject({ line: 2, why });
    expect(toml).toContain(key);
    expect(toml).not.toContain('maxconn');
  });

  test('a time that is none, and a service that comes twice', () => {
    const { toml, lost } = of(`${service('-p ever')}-A -t 192.0.2.1:80 -s rr\n`);
    expect(lost.map(({ why }) => why)).toEqual(['is no whole number', 'a service that stands here already: the first one counts']);
    expect(toml).toContain('affinity = 300');
    expect(toml).toContain('addr = "10.0.0.1:80"');
  });

  test('what is no such list is told', () => {
    expect(of(`IP Virtual Server version 1.2.1\n${service('')}`).lost[0]).toMatchObject({ line: 1, why: 'is not what ipvsadm -Sn prints' });
  });
});

test('a file that cannot be read is a bad configuration, as for lb4 check', async () => {
  const run = importCommand().parseAsync(['haproxy', '/nonexistent/haproxy.cfg'], { from: 'user' });
  await expect(run).rejects.toThrow(ConfigError);
  await expect(run).rejects.toThrow('/nonexistent/haproxy.cfg: cannot be read: no such file or directory (ENOENT)');
});
