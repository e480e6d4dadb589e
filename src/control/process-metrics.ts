/** prom-client's own metrics of the process: processor time, memory, garbage collection, file descriptors. */
import { readdir } from 'node:fs/promises';
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';

let registry: Registry | undefined;

/**
 * One registry for the whole process, made when it is first asked for: what prom-client starts for it (observers, timers) it
 * never stops. So its counters go on, too, when the statistics server moves to another port.
 */
export function processMetrics(): Registry {
  registry ??= collectProcess(new Registry());
  return registry;
}

/** Without the metrics that need a timer, list every socket, or break Prometheus' rules for names. */
function collectProcess(register: Registry): Registry {
  // The delay of the event loop is measured by a timer, every 10 ms unless told. It cannot be switched off.
  collectDefaultMetrics({ register, eventLoopMonitoringPrecision: 60_000 });
  for (const { name } of register.getMetricsAsArray()) {
    if (/^nodejs_(active|eventloop)_|^process_open_fds$/.test(name)) register.removeSingleMetric(name);
  }
  register.registerMetric(openFiles());
  return register;
}

function openFiles(): Gauge {
  return new Gauge({
    name: 'process_open_fds',
    help: 'Number of open file descriptors.',
    registers: [],
    // prom-client's own lists them on this thread, 1 ms for every 1,000. One of them is the listing's.
    async collect() {
      this.set((await readdir('/proc/self/fd')).length - 1);
    },
  });
}
