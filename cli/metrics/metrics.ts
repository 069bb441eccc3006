import type { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { type LabelsOf, METRIC_NAMES, METRICS, type MetricName, type NameOf } from './metric-table.ts';

/** Bounds of request times in seconds: from a local directory to a provider that throttles. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** The values of the metrics of one process, and their text. Nothing here is global. */
export class Metrics {
  readonly #registry: Registry;
  readonly #gauges = new Map<MetricName, Gauge>();
  readonly #counters = new Map<MetricName, Counter>();
  readonly #histograms = new Map<MetricName, Histogram>();

  private constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** The library is loaded here: a process that tells nobody does not pay for it. */
  static async create(names: readonly MetricName[] = METRIC_NAMES): Promise<Metrics> {
    const client = await import('prom-client');
    const metrics = new Metrics(new client.Registry());
    const registers = [metrics.#registry];
    for (const name of names) {
      const { type: kind, help, labels } = METRICS[name];
      const options = { name, help, labelNames: [...labels], registers };
      switch (kind) {
        case 'gauge':
          metrics.#gauges.set(name, new client.Gauge(options));
          break;
        case 'counter':
          metrics.#counters.set(name, new client.Counter(options));
          break;
        case 'histogram':
          metrics.#histograms.set(name, new client.Histogram({ ...options, buckets: BUCKETS }));
          break;
        default:
          kind satisfies never;
      }
    }
    return metrics;
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** A value that is not known (null, undefined) is left out. */
  set<N extends NameOf<'gauge'>>(
    name: N,
    labels: LabelsOf<N>,
    value: number | boolean | null | undefined,
  ): void {
    if (value !== null && value !== undefined) this.#gauges.get(name)?.set(given(labels), Number(value));
  }

  /** An instant, ms. */
  setInstant<N extends NameOf<'gauge'>>(name: N, labels: LabelsOf<N>, ms: number | null | undefined): void {
    if (typeof ms === 'number') this.set(name, labels, ms / 1000);
  }

  add<N extends NameOf<'gauge'>>(name: N, labels: LabelsOf<N>, change: number): void {
    this.#gauges.get(name)?.inc(given(labels), change);
  }

  count<N extends NameOf<'counter'>>(name: N, labels: LabelsOf<N>, more = 1): void {
    this.#counters.get(name)?.inc(given(labels), more);
  }

  observe<N extends NameOf<'histogram'>>(name: N, labels: LabelsOf<N>, value: number): void {
    this.#histograms.get(name)?.observe(given(labels), value);
  }

  /** Forgets all series of some metrics, before they are told anew: what is no more must not stay as it was. */
  forget(names: readonly MetricName[]): void {
    for (const name of names) (this.#gauges.get(name) ?? this.#counters.get(name))?.reset();
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}

const given = (labels: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(labels).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
