/**
 * The packet worker dies while connections pass. Nothing from outside ends one thread, so strace makes its next poll(2) fail, with an
 * error that the kernel never gives there: all that comes after is real.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { holdConnections } from '../lab/hold.ts';
import { ECHO, Topology, VIP } from '../lab/topology.ts';
import { waitUntil, within } from '../lab/wait.ts';

/** The thread that waits in poll(2) for two descriptors, the packet socket and its eventfd, and not for ever. */
function pollingThread(pid: number): string | undefined {
  const poll = process.arch === 'arm64' ? '73' : '7';
  return readdirSync(`/proc/${pid}/task`).find((tid) => {
    const [number, , descriptors, timeout] = readFileSync(`/proc/${pid}/task/${tid}/syscall`, 'utf8').split(' ');
    return number === poll && descriptors === '0x2' && timeout !== '0xffffffff';
  });
}

test('lb4 says why, takes its rules away and exits 1', async () => {
  await using lab = new Topology({ servers: 1 });
  const balancer = await lab.serve();
  await holdConnections(lab.client, 5, `${VIP}:${ECHO}`);
  const { running } = balancer;
  const thread = await waitUntil(() => pollingThread(running.pid), { what: 'the worker to wait for frames', every: 1 });
  lab.balancer.start(['strace', '-p', thread, '-e', 'trace=poll,ppoll', '-e', 'inject=poll,ppoll:error=EIO']);
  expect(await within(running.exited, 10_000, 'the end of lb4')).toEqual({ code: 1, signal: null });
  expect(running.lines.join('\n')).toContain('poll(AF_PACKET)');
  expect(running.lines.join('\n')).not.toMatch(/could not/);
  expect(lab.balancer.sh('sh', '-c', 'iptables-save | grep lb4 || true')).toBe('');
  expect(lab.balancer.sh('sysctl', '-n', 'net.ipv4.ip_local_reserved_ports').trim()).toBe('');
});
