/** Connections that are kept busy, and whether they live on. */
import type { HoldReport } from './client.ts';
import type { Namespace } from './lab.ts';
import type { Running } from './processes.ts';
import { PATIENCE, waitUntil } from './wait.ts';

/** Opens `count` connections to the echo port at `to` (ADDRESS:PORT) and keeps them busy, each by a ping every so many ms. */
export async function holdConnections(client: Namespace, count: number, to: string, every = 20): Promise<Running> {
  const running = client.program('client', 'hold', `${count}`, to, `${client.ports(count)}`, `${every}`);
  await running.line(/^holding/);
  return running;
}

/** How each of them is. */
export async function report(running: Running): Promise<HoldReport> {
  const answer = running.nextLine(/^\[/);
  running.write('report');
  return JSON.parse(await answer) as HoldReport;
}

/** Waits until every connection that is not at the server `lost` and alive has been answered so many more times; returns the dead among them. */
export async function othersLiveOn(running: Running, lost = '', { times = 3, timeout = PATIENCE } = {}): Promise<HoldReport> {
  const before = await report(running);
  await waitUntil(
    async () => {
      const now = await report(running);
      return now.every(
        ({ server, echoed, ended }, index) => server === lost || ended !== undefined || echoed >= (before[index]?.echoed ?? 0) + times,
      );
    },
    { what: `the connections that are not at ${lost} to go on`, every: 50, timeout },
  );
  return (await report(running)).filter(({ server, ended }) => server !== lost && ended !== undefined);
}
