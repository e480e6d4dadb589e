/**
 * The packet worker of the pcap driver: a process of its own, since `cap` and `raw-socket` work on a main thread's event loop alone, and
 * `cap` ends its process when an interface goes down. What the other worker does in a loop is here done at events: a frame, a message,
 * a timer. pcap-thread.ts starts it, with the shared memory as descriptor {@link MEMORY_FD}.
 */
import { native } from '../io/native.ts';
import { PcapDriver } from '../io/pcap.ts';
import { TRANSMIT_FAILED } from '../layout/counters.ts';
import { CLOCK, REFUSED } from '../layout/frames.ts';
import type { Capture } from './capture.ts';
import { filterSpec } from './filter.ts';
import type { FromProcess, Settings, ToWorker, WorkerData } from './messages.ts';
import { openWorkplace } from './workplace.ts';

// Whoever kills lb4 kills its main process: nobody else may forward, or hold the table, after that. Stopped it tells this one itself.
native().endWithParent();
// It may have ended before that.
process.on('disconnect', () => process.exit());
for (const signal of ['SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGHUP'] as const) process.on(signal, () => {});
process.once('message', (data: WorkerData) => {
  try {
    begin(data);
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    tell({ type: 'failed', message, code });
    process.disconnect();
  }
});

function begin(data: WorkerData): void {
  const driver = new PcapDriver({ arrived, tell: (message) => tell({ type: 'told', message }) });
  const { core, duties, frames, gauges, capture } = openWorkplace(data, native().mapSharedMemory(data.memoryFd), driver, tell);
  const routes = new (native().RouteSocket)();
  let { settings } = data;
  let captured: Capture | undefined;

  const recovered = duties.begin(data);
  driver.capture(filterSpec(settings.services), routes.interfaces());
  tick();
  process.on('message', (message: ToWorker) => {
    handle(message);
  });
  tell({ type: 'ready', recovered, wakeFd: -1 });

  function arrived(): void {
    const count = driver.receive(frames, 0);
    if (captured === undefined) core.process(count);
    else captured.process(count);
    driver.transmit(frames, 1);
    if (frames[REFUSED] !== 0) gauges[TRANSMIT_FAILED] += frames[REFUSED];
    // Where frames follow each other without end no timer is heard.
    if (duties.isDue(frames[CLOCK])) duties.tick(frames[CLOCK]);
  }

  function tick(): void {
    driver.receive(frames, 0);
    duties.tick(frames[CLOCK]);
    setTimeout(tick, duties.idleTime());
  }

  function handle(message: ToWorker): void {
    if (message.type === 'stop') {
      duties.finish(frames[CLOCK]);
      driver.close();
      process.exit();
    }
    if (message.type === 'ask') return tell({ type: 'alive' });
    if (message.type === 'end') return obey(() => duties.end(message.records));
    if (message.type === 'takeBack') return obey(() => duties.takeBack(message.records));
    if (message.type === 'capture') {
      captured = capture(message.order);
      return;
    }
    if (message.type === 'interfaces') duties.setInterfaces(message.mtus, undefined);
    else {
      settings = message.settings satisfies Settings;
      duties.apply(message);
    }
    follow();
    if (message.type === 'settings') tell({ type: 'applied' });
  }

  /** All at once: libpcap keeps frames meanwhile. */
  function obey(order: () => void): void {
    order();
    duties.obey(Number.POSITIVE_INFINITY);
  }

  /** What is up, and what is to be captured, may have changed. */
  function follow(): void {
    try {
      driver.capture(filterSpec(settings.services), routes.interfaces());
    } catch {
      // The driver has told of each interface.
    }
  }
}

function tell(message: FromProcess): void {
  process.send?.(message);
}
