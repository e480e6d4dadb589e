/** systemd's watchdog is fed while the worker lives, also one that nothing arrives for; one that hangs starves it, and is told. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LB4 } from '../lab/balancer.ts';
import { Live } from '../lab/live.ts';
import { NotifySocket } from '../lab/notify-socket.ts';
import { injectPoll } from '../lab/packet-worker.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { PATIENCE, within } from '../lab/wait.ts';

const BEAT = 'WATCHDOG=1';

test('a beat a second while the worker lives, none while it hangs, and none of an lb4 that stops', async () => {
  await using live = await Live.start('passthrough');
  const { balancer: host, directory } = live.lab;
  await live.balancer.stop();
  using systemd = new NotifySocket(join(directory, 'notify'));
  const env = { NOTIFY_SOCKET: systemd.path, WATCHDOG_USEC: '30000000' };
  const running = host.start([LB4, '--passthrough', `--config=${live.file}`], { env });
  expect(await systemd.next()).toMatch(/^READY=1/);
  // Nothing but health checks passes: it sleeps.
  expect([await systemd.next(), await systemd.next(), await systemd.next()]).toEqual([BEAT, BEAT, BEAT]);

  const strace = await injectPoll(host, running.pid, 'delay_exit=600000000:when=1');
  await strace.line(/DELAYED/);
  systemd.rest();
  await running.line(/"worker":0,"seconds":5,"msg":"a worker does not answer/);
  // One, for what it had answered before; five looks found it silent.
  expect(systemd.rest().length).toBeLessThanOrEqual(1);
  await strace.stop('SIGKILL');
  await running.line(/the worker answers again/);
  expect(await systemd.next()).toBe(BEAT);
  expect(running.lines.filter((line) => line.includes('does not answer'))).toHaveLength(1);

  // It hangs for good, and a reload waits for it: a stop does not.
  const forGood = await injectPoll(host, running.pid, 'delay_exit=600000000:when=1');
  await forGood.line(/DELAYED/);
  live.replace(live.text({ servers: [0] }));
  for (const signal of ['SIGHUP', 'SIGTERM']) process.kill(running.pid, signal);
  await running.line(/a thread hangs, and keeps this process from its end/);
  // As a thread that it traces cannot end without it.
  await forGood.stop('SIGKILL');
  expect(await within(running.exited, PATIENCE, 'the end of lb4')).toEqual({ code: null, signal: 'SIGKILL' });
  const said = running.lines.join('\n');
  expect(said).toMatch(/packet worker 0 does not answer: it is ended by force.*"msg":"stopped".*a thread hangs/s);
  expect(traces(host)).toEqual(NOTHING);
});

test('too short a period is told', async () => {
  await using live = await Live.start('proxy');
  await live.balancer.stop();
  using systemd = new NotifySocket(join(live.lab.directory, 'notify'));
  const env = { NOTIFY_SOCKET: systemd.path, WATCHDOG_USEC: '1000000' };
  const running = live.lab.balancer.start([LB4, `--config=${live.file}`], { env });
  await running.line(/"seconds":1,"msg":"WatchdogSec is too short/);
  expect([await systemd.next(), await systemd.next()]).toEqual([expect.stringMatching(/^READY=1/), BEAT]);
  expect(await running.stop()).toEqual({ code: 0, signal: null });
});
