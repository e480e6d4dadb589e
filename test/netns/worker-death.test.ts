/** The packet worker dies while connections pass: its next poll(2) fails with an error that the kernel never gives there. */
import { expect, test } from 'vitest';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import { Live } from '../lab/live.ts';
import { injectPoll } from '../lab/packet-worker.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { PATIENCE, within } from '../lab/wait.ts';

/** Ends lb4 by its worker. Returns what it has logged. */
async function killWorker({ lab: { balancer: host }, balancer: { running } }: Live): Promise<string> {
  const strace = await injectPoll(host, running.pid, 'error=EIO');
  expect(await within(running.exited, PATIENCE, 'the end of lb4')).toEqual({ code: 1, signal: null });
  // It notices a moment later, and is nothing that lb4 leaves.
  await within(strace.exited, PATIENCE, 'the end of strace');
  const said = running.lines.join('\n');
  expect(said).toContain('poll(AF_PACKET)');
  expect(said).not.toMatch(/could not/);
  return said;
}

test('lb4 says why and exits 1; connections wait for the next one, unless the table may be what ended it', async () => {
  await using live = await Live.start('passthrough');
  const { client, balancer: host } = live.lab;
  const hold = await holdConnections(client, 5, `${live.vip}:7`);
  const { rules, kept } = traces(host);
  expect(await killWorker(live)).toMatch(/connections wait for the next start/);
  expect(traces(host)).toMatchObject({ rules, kept });
  await live.launch();
  expect(await othersLiveOn(hold)).toEqual([]);
  // So soon again: no third one is to be ended by it.
  expect(await killWorker(live)).toMatch(/may be what ended this one/);
  expect(traces(host)).toEqual(NOTHING);
});
