/** GET /metrics: Prometheus' text format. */
import { readdir } from 'node:fs/promises';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { FAMILIES, type Family } from './families.ts';
import { type LabelledRows, type Labels, labelRows } from './rows.ts';
import { takeSnapshot } from './snapshot.ts';
import type { Source, View } from './source.ts';

/** prom-client renders shared labels once an object, others once a sample. Its types do not say so. */
interface SharedSample {
  readonly labels: Labels;
  readonly sharedLabels: Labels;
  readonly value: number;
}

const NO_LABELS: Labels = {};

export class Metrics {
  private readonly registry = new Registry();
  private readonly source: Source;
  private readonly version: string;
  private rows: LabelledRows | undefined;

  constructor(source: Source, version: string) {
    this.source = source;
    this.version = version;
    const families = FAMILIES.filter(({ modes }) => modes === undefined || modes.includes(source.mode));
    for (const family of families) this.register(family);
    collectProcess(this.registry);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  /** Reads every counter now, and writes them down. */
  text(view: View): Promise<string> {
    this.rows = labelRows(takeSnapshot(this.source, view), this.version);
    // Calls every `get` below before it first waits: two scrapes at a time do not mix.
    return this.registry.metrics();
  }

  /** prom-client's metrics count by themselves. Ours are counted elsewhere: only how they are read is replaced. */
  private register({ name, type, help, labels, each }: Family): void {
    const configuration = { name, help, labelNames: [...labels], registers: [this.registry] };
    const metric = type === 'counter' ? new Counter(configuration) : new Gauge(configuration);
    const described = metric.get();
    metric.get = async () => {
      const values: SharedSample[] = [];
      if (this.rows !== undefined) each(this.rows, (sharedLabels, value) => values.push({ labels: NO_LABELS, sharedLabels, value }));
      return { ...(await described), values };
    };
  }
}

/** prom-client's own metrics of the process, without those that need a timer, list every socket, or break Prometheus' rules for names. */
function collectProcess(register: Registry): void {
  // The delay of the event loop is measured by a timer, every 10 ms unless told. It cannot be switched off.
  collectDefaultMetrics({ register, eventLoopMonitoringPrecision: 60_000 });
  for (const { name } of register.getMetricsAsArray()) {
    if (/^nodejs_(active|eventloop)_|^process_open_fds$/.test(name)) register.removeSingleMetric(name);
  }
  const openFiles = new Gauge({
    name: 'process_open_fds',
    help: 'Number of open file descriptors.',
    registers: [],
    // prom-client's own lists them on this thread, 1 ms for every 1,000. One of them is the listing's.
    async collect() {
      this.set((await readdir('/proc/self/fd')).length - 1);
    },
  });
  register.registerMetric(openFiles);
}
