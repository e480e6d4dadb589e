import { describe, expect, it } from 'vitest';
import { check, FRONTEND, type Row } from '../lab/config-lines.ts';

const ROWS: Row[] = [
  { name: 'nothing said', toml: '', lines: [] },
  { name: 'http with its keys', toml: 'health_check = "http"\nhealth_check_path = "/up"\nhealth_check_status = 204', lines: [] },
  { name: 'exec with its command', toml: 'health_check = "exec"\nhealth_check_command = ["/bin/true"]', lines: [] },
  {
    name: 'exec without its command',
    toml: 'health_check = "exec"',
    lines: [
      'f:4:16: backends.b.health_check_command: missing; needed with health_check = "exec": ' +
        'a program and its arguments, ["/usr/local/bin/check", "-q"]',
    ],
  },
  {
    name: 'a command for http',
    toml: 'health_check = "http"\nhealth_check_command = ["/bin/true"]',
    lines: ['f:5:1: warning: backends.b.health_check_command: has no effect with health_check = "http"'],
  },
  {
    name: 'a path, status and host for exec',
    toml: 'health_check = "exec"\nhealth_check_path = "/"\nhealth_check_status = 200\nhealth_check_host = "a"\nhealth_check_command = ["a"]',
    lines: ['path', 'status', 'host'].map(
      (key, i) => `f:${i + 5}:1: warning: backends.b.health_check_${key}: has no effect with health_check = "exec"`,
    ),
  },
  {
    name: 'a path for the default',
    toml: 'health_check_path = "/"',
    lines: ['f:4:1: warning: backends.b.health_check_path: has no effect with health_check = "tcp", the default'],
  },
  {
    name: 'a path for a check that there is not',
    toml: 'health_check = "htp"\nhealth_check_path = "/"',
    lines: [
      'f:4:16: backends.b.health_check: "htp" is unknown; allowed: "tcp", "http", "exec", "udp", "gue", "ipip" or "none", or a list, ["tcp", "http"]; did you mean "http"?',
    ],
  },
  {
    name: 'a list, and keys of its kinds',
    toml: 'health_check = ["http", "exec"]\nhealth_check_path = "/"\nhealth_check_command = ["a"]\nhealth_check_send = "x"',
    lines: ['f:7:1: warning: backends.b.health_check_send: has no effect with health_check = "http" and "exec"'],
  },
  {
    name: 'a list with exec, and no command',
    toml: 'health_check = ["tcp", "exec"]',
    lines: [
      'f:4:16: backends.b.health_check_command: missing; needed with health_check = "exec": a program and its arguments, ["/usr/local/bin/check", "-q"]',
    ],
  },
  {
    name: 'a list of kinds that there are not, or twice',
    toml: 'health_check = ["tcp", "none", "htp", "tcp"]',
    lines: [
      'f:4:24: backends.b.health_check.1: "none" is unknown; allowed: "tcp", "http", "exec", "udp", "gue" or "ipip"',
      'f:4:32: backends.b.health_check.2: "htp" is unknown; allowed: "tcp", "http", "exec", "udp", "gue" or "ipip"; did you mean "http"?',
    ],
  },
  {
    name: 'a list that names a kind twice',
    toml: 'health_check = ["tcp", "http", "tcp"]',
    lines: ['f:4:32: backends.b.health_check.2: "tcp" is there already; allowed: "tcp", "http", "exec", "udp", "gue" or "ipip"'],
  },
  {
    name: 'a list of nothing',
    toml: 'health_check = []',
    lines: [
      'f:4:16: backends.b.health_check: is an empty array; allowed: "tcp", "http", "exec", "udp", "gue", "ipip" or "none", or a list, ["tcp", "http"]',
    ],
  },
  {
    name: 'neither a kind nor a list',
    toml: 'health_check = 5',
    lines: [
      'f:4:16: backends.b.health_check: 5 is a number; allowed: "tcp", "http", "exec", "udp", "gue", "ipip" or "none", or a list, ["tcp", "http"]',
    ],
  },
  { name: 'a port for all that look', toml: 'health_check = "http"\nhealth_check_port = 8080', lines: [] },
  {
    name: 'a datagram and its answer',
    toml: 'health_check = "udp"\nhealth_check_send = "hex:0aFF"\nhealth_check_expect = "ok"',
    lines: [],
  },
  {
    name: 'a datagram for the default',
    toml: 'health_check_send = "x"',
    lines: ['f:4:1: warning: backends.b.health_check_send: has no effect with health_check = "tcp", the default'],
  },
  {
    name: 'half a byte, and too many',
    toml: `health_check = "udp"\nhealth_check_send = "hex:0ag"\nhealth_check_expect = "${'x'.repeat(1473)}"`,
    lines: [
      'f:5:21: backends.b.health_check_send: "hex:0ag" is not bytes of two hexadecimal digits each; allowed: ' +
        'text, or bytes as "hex:00ff", of at most 1472 bytes',
      `f:6:23: backends.b.health_check_expect: "${'x'.repeat(60)}…" has 1473 bytes; allowed: text, or bytes as "hex:00ff", of at most 1472 bytes`,
    ],
  },
  {
    name: 'by a tunnel, alone and in a list',
    toml: 'dsr = "gue"\nhealth_check = ["http", "gue"]\nhealth_check_port = 81',
    lines: [],
  },
  {
    name: 'another port for a tunnel',
    toml: 'dsr = "gue"\nhealth_check = "gue"\nhealth_check_port = 81',
    lines: ['f:6:1: warning: backends.b.health_check_port: has no effect with health_check = "gue"'],
  },
  {
    name: 'by a tunnel that there is not',
    toml: 'dsr = "l2"\nhealth_check = ["http", "gue"]',
    lines: [
      'f:5:25: backends.b.health_check: a "gue" check asks a server by its tunnel, and these have no such; needed: dsr = "gue", or another check',
    ],
  },
  {
    name: 'by another tunnel than theirs',
    toml: 'dsr = "gue"\nhealth_check = ["ipip", "gue"]',
    lines: [
      'f:5:17: backends.b.health_check: a "ipip" check asks a server by its tunnel, and these have no such; needed: dsr = "ipip", or another check',
    ],
  },
  {
    name: 'times and a port for none',
    toml: 'health_check = "none"\nhealth_check_interval = 1\nhealth_check_port = 81',
    lines: ['interval', 'port'].map(
      (key, i) => `f:${i + 5}:1: warning: backends.b.health_check_${key}: has no effect with health_check = "none"`,
    ),
  },
];

describe('health checks', () => {
  it.each(ROWS)('$name', ({ toml, lines }) =>
    expect(check(`${FRONTEND}\n[backends.b]\nservers.s.addr="192.0.2.2:80"\n${toml}`)).toEqual(lines),
  );

  it('ask by a tunnel in DSR alone, which has one', () => {
    const file = `${FRONTEND}\n[backends.b]\nservers.s.addr="192.0.2.2:80"\ndsr = "gue"\nhealth_check = "gue"`;
    expect(check(file, 'dsr')).toEqual([]);
    const refused =
      'f:5:16: backends.b.health_check: a "gue" check asks a server by its tunnel, by which packets go with --dsr alone; needed: --dsr, or another check';
    expect([check(file, 'proxy'), check(file, 'passthrough')]).toEqual([[refused], [refused]]);
  });
});
