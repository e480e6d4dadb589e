/** In the guest: the script of servers behind `dsr = "gue"`, in both of its dialects, on a kernel that has fou; by packets made by hand. */
import { deepStrictEqual, ok, strictEqual } from 'node:assert';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { renderServerScript } from '../../../src/rules/render.ts';
import type { Unwrap } from '../../../src/rules/types.ts';
import { Capture } from '../../lab/capture.ts';
import { type Around, countedBy, echo6, GUE_PORT, gue } from '../../lab/gue.ts';
import { Lab, type Namespace } from '../../lab/lab.ts';
import { waitUntil } from '../../lab/wait.ts';
import { ACK, ICMP, ipv4, SYN } from '../../lab/wire.ts';

const [BALANCER, VIP, FIRST, SECOND] = ['10.90.0.1', '203.0.113.80', '10.90.0.11', '10.90.0.12'];
const [BALANCER6, VIP6] = ['2001:db8:1::1', '2001:db8::80'];
const [BALANCER6_HEX, VIP6_HEX, FIRST6_HEX] = [
  '20010db8000100000000000000000001',
  '20010db8000000000000000000000080',
  '20010db8000100000000000000000011',
];

await using lab = new Lab();
const bridge = lab.bridge('switch');
const [balancer, first, second] = ['balancer', 'p1', 'p2'].map((name) => lab.namespace(name)) as [Namespace, Namespace, Namespace];
bridge(balancer, 'eth0', `${BALANCER}/24`);
bridge(first, 'eth0', `${FIRST}/24`);
bridge(second, 'eth0', `${SECOND}/24`);
balancer.ip('address', 'add', `${BALANCER6}/64`, 'dev', 'eth0', 'nodad');
first.ip('address', 'add', '2001:db8:1::11/64', 'dev', 'eth0', 'nodad');

function script(server: Namespace, address: string, unwrap: Unwrap): (action: string) => string {
  const file = join(lab.directory, `${unwrap}-${address}.sh`);
  const tunnels = [VIP, VIP6].map((vip) => ({ vip, port: GUE_PORT, overhead: 48 }));
  writeFileSync(file, renderServerScript({ server: address, rewrites: [], loopback: [], tunnels, hops: [FIRST, SECOND], unwrap }));
  return (action) => server.sh('sh', file, action);
}

/** The guest has no Python. What bash itself prints is a datagram a line. */
function send(inner: Buffer, around: Around): void {
  const file = join(lab.directory, 'datagram');
  writeFileSync(file, gue(inner, around));
  balancer.sh('bash', '-c', `cat ${file} >/dev/udp/${FIRST}/${GUE_PORT}`);
}

/** Of the echo that is a check. */
const CHECK = 0x8208;

/** Echo requests with so many hops each, and one in IPv6, which the VIP answers, and one for the server's own address. */
async function echoes(hops: readonly number[], name: string): Promise<void> {
  const replies = await Capture.start(
    balancer,
    'eth0',
    '( icmp and src host 203.0.113.80 ) or ( icmp and src host 10.90.0.11 and icmp[4:2] = 0x8208 ) or ( icmp6 and src host 2001:db8::80 )',
  );
  for (const count of hops) {
    const echo = ipv4({ source: BALANCER, destination: VIP, protocol: ICMP, type: 8, rest: (0x100 + count) << 16 });
    send(echo, { hops: Array(count).fill(SECOND) as string[] });
  }
  send(echo6(BALANCER6_HEX, VIP6_HEX, 0x206), { hops: [SECOND], protocol: 41 });
  // A check. Its number is no process's: the ping below has that of its own.
  send(ipv4({ source: BALANCER, destination: FIRST, protocol: ICMP, type: 8, rest: CHECK * 0x10000 }), {});
  const wanted = [...hops.map((count) => 0x100 + count), 0x206, CHECK];
  // Answers come by the same queue, in order; the program's own are a ping that comes behind them.
  balancer.sh('ping', '-c', '1', '-W', '20', FIRST);
  const seen = (await replies.stop()).flatMap((line) => /echo reply, id (\d+)/.exec(line)?.[1] ?? []).map(Number);
  deepStrictEqual(seen, wanted, name);
  process.stdout.write(`${name}: ${seen.length} echo replies\n`);
}

/** What no client calls, in both families. */
function strangers(): void {
  send(ipv4({ source: BALANCER, destination: FIRST, sourcePort: 5000, destinationPort: 80, flags: SYN }), { hops: [SECOND] });
  send(echo6(BALANCER6_HEX, FIRST6_HEX, 0x207), { hops: [SECOND], protocol: 41 });
}

const state = () =>
  first.sh(
    'sh',
    '-c',
    'ip -o address show dev lo; tc qdisc show dev eth0; nft list ruleset; ip -o link show up; ip fou show 2>/dev/null || :',
  );
const before = state();

const fou = script(first, FIRST, 'fou');
fou('install');
ok(first.sh('ip', 'fou', 'show').includes(`port ${GUE_PORT} gue`));
await echoes([0, 1, 3], 'fou');
strangers();
await waitUntil(() => fou('status').includes('counter dropped_destination_packets_of_kernel_tunnels 2\n'), {
  what: 'strangers to be dropped',
});
process.stdout.write('fou: for the VIPs alone\n');

// The other dialect takes its place.
const bpf = script(first, FIRST, 'bpf');
bpf('install');
strictEqual(first.sh('ip', 'fou', 'show'), '');
script(second, SECOND, 'bpf')('install');
await echoes([0, 1, 3, 4], 'bpf');
send(ipv4({ source: BALANCER, destination: VIP, sourcePort: 5000, destinationPort: 80, flags: ACK }), { hops: [SECOND] });
await waitUntil(() => countedBy(second).lastResort === 1, { what: 'the second server to be asked' });
strangers();
await waitUntil(() => countedBy(first).destination === 2, { what: 'strangers to be dropped' });
deepStrictEqual(countedBy(first), { total: 9, alternate: 1, destination: 2 });
process.stdout.write('the second server was asked\n');

bpf('remove');
strictEqual(state(), before);
process.stdout.write('it has left nothing\n');
