/** All that lb4, or whoever steers it, could leave on a host: as .ci/run looks at the machine, of one namespace. */
import { execFileSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import type { Namespace } from './lab.ts';

/** Where names end or begin with the namespace's number. */
const OWN = ['/run/lb4', '/dev/shm/lb4', '/sys/fs/bpf'] as const;
/** What the kernel counts by itself. */
const COUNTS = /nf_conntrack_(?:count|max|buckets)/;

/** What it gives every link, some time after it has come up. */
const LINK_LOCAL = /\bfe80::/;

/** Lines by what they are of, to be compared. */
export function snapshot(namespace: Namespace): Readonly<Record<string, readonly string[]>> {
  const ask = (...command: string[]) => lines(namespace.sh(...command));
  const { ino } = statSync(`/run/netns/${namespace.name}`);
  return {
    links: ask('ip', '-details', '-o', 'link').map((line) => line.replaceAll(/ state \S+| (?:promiscuity|allmulti) \d+/g, '')),
    addresses: ask('ip', '-o', 'addr').filter((line) => !LINK_LOCAL.test(line)),
    routes: ask('sh', '-c', 'ip route show table all; ip -6 route show table all; ip rule; ip -6 rule').filter(
      (line) => !LINK_LOCAL.test(line),
    ),
    rules: ask('sh', '-c', 'iptables-save; ip6tables-save; iptables-legacy-save; ip6tables-legacy-save; nft list ruleset')
      .filter((line) => !line.startsWith('#'))
      .map((line) => line.replace(/ *\[\d+:\d+\]$/, '')),
    qdiscs: ask('tc', 'qdisc', 'show'),
    sysctls: ask('sysctl', '-a', '-r', '^net[.]').filter((line) => !COUNTS.test(line)),
    files: OWN.flatMap((directory) => named(directory, String(ino))),
    mounts: lines(execFileSync('cat', ['/proc/mounts'], { encoding: 'utf8' })).filter((line) => line.includes(namespace.lab.directory)),
    processes: namespace.pids().map(String),
  };
}

function named(directory: string, number: string): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => name.split('-').includes(number))
      .map((name) => `${directory}/${name}`);
  } catch {
    return [];
  }
}

function lines(text: string): string[] {
  return text.split('\n').filter(Boolean);
}
