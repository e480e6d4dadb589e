/** GET /metrics: Prometheus' text format. */
import { Counter, Gauge, Registry } from 'prom-client';
import { FAMILIES, type Family } from './families.ts';
import { processMetrics } from './process-metrics.ts';
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
  readonly #registry: Registry;
  readonly #source: Source;
  readonly #version: string;
  #rows: LabelledRows | undefined;

  constructor(source: Source, version: string) {
    this.#source = source;
    this.#version = version;
    const families = FAMILIES.filter(({ isOf }) => isOf === undefined || isOf(source));
    const own = new Registry();
    for (const family of families) this.#register(family, own);
    this.#registry = Registry.merge([own, processMetrics()]);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Reads every counter now, and writes them down. */
  text(view: View): Promise<string> {
    this.#rows = labelRows(takeSnapshot(this.#source, view), this.#version);
    // Calls every `get` below before it first waits: two scrapes at a time do not mix.
    return this.#registry.metrics();
  }

  /** prom-client's metrics count by themselves. Ours are counted elsewhere: only how they are read is replaced. */
  #register({ name, type, help, labels, each }: Family, registry: Registry): void {
    const configuration = { name, help, labelNames: [...labels], registers: [registry] };
    const metric = type === 'counter' ? new Counter(configuration) : new Gauge(configuration);
    const described = metric.get();
    metric.get = async () => {
      const values: SharedSample[] = [];
      if (this.#rows !== undefined) each(this.#rows, (sharedLabels, value) => values.push({ labels: NO_LABELS, sharedLabels, value }));
      return { ...(await described), values };
    };
  }
}
