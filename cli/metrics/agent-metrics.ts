import type { Clock } from '../../engine/clock.ts';
import type { StoreObserver } from '../../engine/store-observer.ts';
import type { Archiver, ArchiverEvent } from '../../wal/archiver.ts';
import { toPitrError } from '../output.ts';
import { problemInWords } from '../render/status.ts';
import { Metrics } from './metrics.ts';
import { tellProcess } from './process-metrics.ts';
import { forgetStatus, type StreamLabels, tellStatus } from './status-metrics.ts';
import { storeMetrics } from './store-metrics.ts';
import { type AgentStatus, WatchedTimeline } from './watched-timeline.ts';

/** What a monitor is told. */
export interface Health {
  readonly isGreen: boolean;
  /** Why not, sentences. */
  readonly reasons: readonly string[];
}

/** Jobs that leave no trace in an archiver. */
type OwnJob = 'base_copy' | 'snapshot' | 'sweep';

interface Success {
  readonly kind: OwnJob;
  readonly labels: Partial<StreamLabels>;
  readonly ms: number;
}

/**
 * The metrics of one agent: counts what happens, and looks at the rest when somebody asks. Asking makes no request to the archive and
 * waits for nothing that ships.
 */
export class AgentMetrics {
  readonly #metrics: Metrics;
  readonly #clock: Clock;
  readonly #maxLagMs: number | undefined;
  readonly #successes = new Map<string, Success>();
  #timelines: readonly WatchedTimeline[] = [];
  #telling: Promise<string> | undefined;
  /** To be told of every request to the archive. */
  readonly observe: StoreObserver;

  private constructor(metrics: Metrics, clock: Clock, maxLagMs: number | undefined) {
    this.#metrics = metrics;
    this.#clock = clock;
    this.#maxLagMs = maxLagMs;
    this.observe = storeMetrics(metrics);
  }

  static async create(clock: Clock, maxLagMs: number | undefined): Promise<AgentMetrics> {
    return new AgentMetrics(await Metrics.create(), clock, maxLagMs);
  }

  get contentType(): string {
    return this.#metrics.contentType;
  }

  /** From now on these archivers are what is asked about. */
  watch(archivers: readonly Archiver[]): void {
    const groups = Map.groupBy(archivers, (a) => `${a.archive.id}/${a.identity.timeline}`);
    this.#timelines = [...groups.values()].map((group) => {
      const { timeline } = group[0]!.identity;
      return new WatchedTimeline(group, {
        maxLagMs: this.#maxLagMs,
        onError: ({ id }) => this.#metrics.count('pitr_archive_look_errors_total', { kind: id, timeline }),
      });
    });
  }

  heard(event: ArchiverEvent, timeline: string): void {
    if (event.kind === 'error') this.failed(event.error, { stream: event.stream, timeline });
  }

  failed(error: unknown, labels: Partial<StreamLabels>): void {
    this.#metrics.count('pitr_errors_total', { kind: toPitrError(error).id, ...labels });
  }

  succeeded(kind: OwnJob, labels: Partial<StreamLabels>): void {
    const key = [kind, labels.timeline, labels.stream].join('/');
    this.#successes.set(key, { kind, labels, ms: this.#clock.nowMs() });
    // it decides what is restorable, and is rare
    if (kind === 'base_copy')
      for (const watched of this.#timelines) if (watched.id === labels.timeline) void watched.lookAgain();
  }

  /** Everything as text. Who asks while that is being made gets the same. */
  text(): Promise<string> {
    this.#telling ??= this.#tell().finally(() => {
      this.#telling = undefined;
    });
    return this.#telling;
  }

  async health(): Promise<Health> {
    if (this.#timelines.length === 0) return { isGreen: false, reasons: ['the agent is starting'] };
    const nowMs = this.#clock.nowMs();
    const statuses = await this.#statuses(nowMs);
    const reasons = statuses.flatMap(({ verdict }) => verdict.problems.map((p) => problemInWords(p, nowMs)));
    return { isGreen: reasons.length === 0, reasons };
  }

  close(): void {
    for (const timeline of this.#timelines) timeline.close();
  }

  #statuses(nowMs: number): Promise<AgentStatus[]> {
    return Promise.all(this.#timelines.map((t) => t.status(nowMs)));
  }

  async #tell(): Promise<string> {
    const nowMs = this.#clock.nowMs();
    const statuses = await this.#statuses(nowMs);
    // in one go from here on: nobody sees half of it
    forgetStatus(this.#metrics);
    tellProcess(this.#metrics);
    for (const [i, timeline] of this.#timelines.entries()) this.#tellTimeline(timeline, statuses[i]!, nowMs);
    this.#tellSuccesses();
    return this.#metrics.text();
  }

  #tellTimeline(watched: WatchedTimeline, { verdict, figures }: AgentStatus, nowMs: number): void {
    const { id: timeline, streams } = watched;
    const metrics = this.#metrics;
    // what others archive is theirs to tell
    const own = figures.streams.filter((s) => streams.has(s.stream));
    tellStatus(metrics, { ...verdict, streams: own }, nowMs);
    metrics.setInstant('pitr_archive_look_timestamp_seconds', { timeline }, watched.lookedMs);
    for (const { identity, head, fenced, succeededMs } of watched.archivers) {
      const labels = { stream: identity.stream, timeline };
      metrics.set('pitr_generation', labels, head.generation);
      metrics.set('pitr_fenced', labels, fenced !== undefined);
      for (const kind of ['ship', 'compaction'] as const)
        metrics.setInstant('pitr_job_last_success_timestamp_seconds', { ...labels, kind }, succeededMs[kind]);
    }
  }

  #tellSuccesses(): void {
    for (const { kind, labels, ms } of this.#successes.values())
      this.#metrics.setInstant('pitr_job_last_success_timestamp_seconds', { ...labels, kind }, ms);
  }
}
