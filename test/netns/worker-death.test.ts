/** The packet worker dies while connections pass: its next poll(2) fails with an error that the kernel never gives there. */
import { expect, test } from 'vitest';
import { holdConnections } from '../lab/hold.ts';
import { injectPoll } from '../lab/packet-worker.ts';
import { ECHO, Topology, VIP } from '../lab/topology.ts';
import { within } from '../lab/wait.ts';

test('lb4 says why, takes its rules away and exits 1', async () => {
  await using lab = new Topology({ servers: 1 });
  const balancer = await lab.serve();
  await holdConnections(lab.client, 5, `${VIP}:${ECHO}`);
  const { running } = balancer;
  await injectPoll(lab.balancer, running.pid, 'error=EIO');
  expect(await within(running.exited, 10_000, 'the end of lb4')).toEqual({ code: 1, signal: null });
  expect(running.lines.join('\n')).toContain('poll(AF_PACKET)');
  expect(running.lines.join('\n')).not.toMatch(/could not/);
  expect(lab.balancer.sh('sh', '-c', 'iptables-save | grep lb4 || true')).toBe('');
  expect(lab.balancer.sh('sysctl', '-n', 'net.ipv4.ip_local_reserved_ports').trim()).toBe('');
});
