/** Scans that are under way, and the newest of those that have ended: what `query-show` tells of them. */

/** Jobs that are remembered after their end. */
const DONE_MAX = 100;

export type QueryStatus = 'active' | 'done' | 'abort';

/** Account of one scan. */
export interface QueryJob {
  readonly trid: bigint;
  readonly namespace: string;
  readonly set: string;
  readonly from: string;
  readonly startedMs: number;
  readonly partitions: number;
  readonly digests: number;
  readonly recordsPerSecond: number;
  readonly socketTimeoutMs: number;
  endedMs: number;
  status: QueryStatus;
  /** Result code at its end. */
  result: number;
  /** Partitions that are done. */
  partitionsDone: number;
  throttled: number;
  filteredMeta: number;
  filteredBins: number;
  succeeded: number;
  failed: number;
  sentBytes: number;
}

export class QueryJobs {
  readonly #active = new Map<bigint, QueryJob>();
  readonly #done: QueryJob[] = [];

  get active(): number {
    return this.#active.size;
  }

  clear(): void {
    this.#done.length = 0;
  }

  /** False: one of that number is under way. */
  begin(job: QueryJob): boolean {
    if (this.#active.has(job.trid)) return false;
    this.#active.set(job.trid, job);
    return true;
  }

  end(job: QueryJob, status: QueryStatus, result: number, nowMs: number): void {
    job.status = status;
    job.result = result;
    job.endedMs = nowMs;
    this.#active.delete(job.trid);
    this.#done.unshift(job);
    if (this.#done.length > DONE_MAX) this.#done.pop();
  }

  find(trid: bigint): QueryJob | undefined {
    return this.#active.get(trid) ?? this.#done.find((j) => j.trid === trid);
  }

  all(): QueryJob[] {
    return [...this.#active.values(), ...this.#done];
  }

  /** Whether a scan was told to stop. */
  abort(trid: bigint): boolean {
    const job = this.#active.get(trid);
    if (job) job.status = 'abort';
    return job !== undefined;
  }
}

/** The line of one job. Keys that a set's name could be taken for come after it, in this order. */
export const formatJob = (job: QueryJob, nowMs: number): string => {
  const isActive = job.endedMs === 0;
  const progress = job.partitions === 0 ? 100 : (100 * job.partitionsDone) / job.partitions;
  const status = isActive ? 'active(ok)' : job.result === 0 ? 'done(ok)' : `done(abnormal-${job.result})`;
  return Object.entries({
    trid: job.trid,
    ns: job.namespace,
    set: job.set,
    'n-pids-requested': job.partitions,
    'n-keyds-requested': job.digests,
    rps: job.recordsPerSecond,
    'active-threads': isActive ? 1 : 0,
    status,
    'job-progress': progress.toFixed(2),
    'run-time': (isActive ? nowMs : job.endedMs) - job.startedMs,
    'time-since-done': isActive ? 0 : nowMs - job.endedMs,
    'recs-throttled': job.throttled,
    'recs-filtered-meta': job.filteredMeta,
    'recs-filtered-bins': job.filteredBins,
    'recs-succeeded': job.succeeded,
    'recs-failed': job.failed,
    from: job.from.replace(':', '+'),
    'job-type': 'basic',
    'net-io-bytes': job.sentBytes,
    'net-io-time': 0,
    'socket-timeout': job.socketTimeoutMs,
  })
    .map(([key, value]) => `${key}=${value}`)
    .join(':');
};
