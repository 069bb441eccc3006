/**
 * Every metric that pitr has. docs/metrics.md shows the same table to people.
 *
 * Names are Prometheus': base units last, `_total` for what only rises. Ages are for people and simple rules; a rule that must notice that
 * nobody asks any more uses the instants (`time() - pitr_…_timestamp_seconds`).
 */

interface Metric {
  readonly type: 'gauge' | 'counter' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
  /** Told by a running agent only; else also by `pitr status --metrics`. */
  readonly isAgents?: true;
}

const STREAM = ['stream', 'timeline'] as const;
const agents = { isAgents: true } as const;

export const METRICS = {
  // the whole
  pitr_build_info: {
    type: 'gauge',
    labels: ['version', 'node'],
    help: 'Always 1; the labels say what runs.',
  },
  pitr_up: { type: 'gauge', labels: ['timeline'], help: 'Whether the archive could be read (1) or not (0).' },
  pitr_green: { type: 'gauge', labels: ['timeline'], help: 'Whether pitr status is green (1) or not (0).' },
  pitr_problems: {
    type: 'gauge',
    labels: ['timeline', 'kind'],
    help: 'Why it is not green: problems by their code in pitr status --json.',
  },

  // what can be restored
  pitr_restorable_ranges: {
    type: 'gauge',
    labels: ['timeline'],
    help: 'Restorable ranges; one without holes.',
  },
  pitr_restorable_start_timestamp_seconds: {
    type: 'gauge',
    labels: ['timeline'],
    help: 'Oldest instant that can be restored.',
  },
  pitr_restorable_end_timestamp_seconds: {
    type: 'gauge',
    labels: ['timeline'],
    help: 'Newest instant up to which every stream is archived.',
  },
  pitr_restorable_age_seconds: {
    type: 'gauge',
    labels: ['timeline'],
    help: 'How far the newest restorable instant is behind the clock: the recovery point objective as it is now.',
  },
  pitr_snapshots: { type: 'gauge', labels: ['timeline'], help: 'Snapshots in the archive.' },
  pitr_leases: {
    type: 'gauge',
    labels: ['timeline'],
    help: 'Leases of those who read the archive by an older catalog.',
  },
  pitr_job_last_success_timestamp_seconds: {
    type: 'gauge',
    labels: ['kind', ...STREAM],
    help: 'When a job last succeeded: ship, base_copy, compaction, sweep of a stream; snapshot, verify of a timeline.',
  },

  // each stream in the archive
  pitr_frontier_timestamp_seconds: {
    type: 'gauge',
    labels: STREAM,
    help: 'Instant up to which everything of the stream is archived.',
  },
  pitr_frontier_age_seconds: { type: 'gauge', labels: STREAM, help: 'How far that is behind the clock.' },
  pitr_archived_lsn: { type: 'gauge', labels: STREAM, help: 'Newest position that is archived.' },
  pitr_archived_changes_total: {
    type: 'counter',
    labels: [...STREAM, 'kind'],
    help: 'Versions that were written to the archive since the beginning of the stream, by seals and by merges.',
  },
  pitr_archived_bytes_total: {
    type: 'counter',
    labels: [...STREAM, 'kind'],
    help: 'Bytes of segments that were written to the archive since the beginning of the stream.',
  },
  pitr_archive_bytes: {
    type: 'gauge',
    labels: STREAM,
    help: 'Bytes of the segments that the stream has there.',
  },
  pitr_archive_segments: { type: 'gauge', labels: STREAM, help: 'Segments that the stream has there.' },
  pitr_runs: { type: 'gauge', labels: STREAM, help: 'Sorted runs that a restore would merge.' },
  pitr_gaps: {
    type: 'gauge',
    labels: [...STREAM, 'kind'],
    help: 'Holes in the history of the stream, acknowledged and unacknowledged.',
  },

  // each engine directory
  pitr_writer_up: {
    type: 'gauge',
    labels: STREAM,
    help: 'Whether a process has the engine open for writing.',
  },
  pitr_writer_failed: {
    type: 'gauge',
    labels: STREAM,
    help: '1 when the open engine takes no writes any more.',
  },
  pitr_agent_up: { type: 'gauge', labels: STREAM, help: 'Whether an agent archives the engine.' },
  pitr_spool_bytes: { type: 'gauge', labels: STREAM, help: 'Log that the archive does not have yet.' },
  pitr_spool_spilled_bytes: { type: 'gauge', labels: STREAM, help: 'Of it, in the spill directory.' },
  pitr_spool_files: {
    type: 'gauge',
    labels: STREAM,
    help: 'Its files, that which is being written included.',
  },
  pitr_spool_oldest_timestamp_seconds: {
    type: 'gauge',
    labels: STREAM,
    help: 'When the oldest sealed file of it was written; absent when none waits.',
  },
  pitr_spool_quota_bytes: {
    type: 'gauge',
    labels: STREAM,
    help: 'How much may wait in the engine directory.',
  },
  pitr_spool_policy: {
    type: 'gauge',
    labels: [...STREAM, 'kind'],
    help: '1 for what happens at the quota: spill, block or drop-with-gap; 0 for the others.',
  },
  pitr_spool_disk_low: {
    type: 'gauge',
    labels: STREAM,
    help: '1 when the file system of the log has less left than it must.',
  },
  pitr_spool_blocked_writers: {
    type: 'gauge',
    labels: STREAM,
    help: 'Writes that wait for room in the log.',
  },
  pitr_spool_dropped_bytes: {
    type: 'gauge',
    labels: STREAM,
    help: 'Log that was given up because of the quota and that the archive has not recorded as a gap yet.',
  },
  pitr_outage: { type: 'gauge', labels: STREAM, help: '1 while the agent cannot archive the stream.' },
  pitr_outage_since_timestamp_seconds: {
    type: 'gauge',
    labels: STREAM,
    help: 'Since when; absent while all is well.',
  },
  pitr_outage_tries: {
    type: 'gauge',
    labels: STREAM,
    help: 'Tries in the outage so far; 0 while all is well.',
  },

  // the agent
  pitr_generation: { type: 'gauge', labels: STREAM, help: 'Writer generation of this agent.', ...agents },
  pitr_fenced: {
    type: 'gauge',
    labels: STREAM,
    help: '1 when another agent has taken the stream: this one archives it no more.',
    ...agents,
  },
  pitr_errors_total: {
    type: 'counter',
    labels: ['kind', ...STREAM],
    help: 'Failures of rounds, merges, base copies and snapshots, by error id.',
    ...agents,
  },
  pitr_archive_look_timestamp_seconds: {
    type: 'gauge',
    labels: ['timeline'],
    help: 'When the agent last read what only the archive knows: snapshots, and streams of other agents.',
    ...agents,
  },
  pitr_archive_look_errors_total: {
    type: 'counter',
    labels: ['kind', 'timeline'],
    help: 'Failures to read that, by error id.',
    ...agents,
  },

  // requests to the archive
  pitr_archive_request_duration_seconds: {
    type: 'histogram',
    labels: ['kind'],
    help: 'Time of a request to the archive, with all its tries and pauses.',
    ...agents,
  },
  pitr_archive_request_errors_total: {
    type: 'counter',
    labels: ['kind', 'error'],
    help: 'Requests that ended with an error, by its id; object-not-found, object-exists and cas-conflict are answers.',
    ...agents,
  },
  pitr_archive_sent_bytes_total: {
    type: 'counter',
    labels: ['kind'],
    help: 'Content of requests that write.',
    ...agents,
  },
  pitr_archive_received_bytes_total: {
    type: 'counter',
    labels: ['kind'],
    help: 'Content of answers to reads.',
    ...agents,
  },
  pitr_archive_tries_total: {
    type: 'counter',
    labels: ['kind'],
    help: 'Single tries of requests to a bucket by what came of them: ok, missing, condition, throttled, away and others.',
    ...agents,
  },
  pitr_archive_retries_total: {
    type: 'counter',
    labels: ['kind'],
    help: 'Tries that were repeated, by the cause.',
    ...agents,
  },
  pitr_archive_tries_in_flight: {
    type: 'gauge',
    labels: [],
    help: 'Tries that wait for the answer of a bucket.',
    ...agents,
  },
  pitr_archive_wait_seconds_total: {
    type: 'counter',
    labels: ['kind'],
    help: 'Time in which requests to a bucket were held back: for a place in flight, for bandwidth, before a retry.',
    ...agents,
  },

  // the process
  pitr_process_memory_bytes: {
    type: 'gauge',
    labels: [],
    help: 'Anonymous resident memory (RssAnon) where the system tells it, else all resident memory.',
    ...agents,
  },
  pitr_process_cpu_seconds_total: {
    type: 'counter',
    labels: ['kind'],
    help: 'Processor time of the process, user and system.',
    ...agents,
  },
  pitr_process_start_timestamp_seconds: { type: 'gauge', labels: [], help: 'When it started.', ...agents },
} as const satisfies Record<string, Metric>;

export type MetricName = keyof typeof METRICS;

export const METRIC_NAMES = Object.keys(METRICS) as readonly MetricName[];

/** A metric of one type, and its labels: all of them, or those that it has. */
export type NameOf<T extends Metric['type']> = {
  [N in MetricName]: (typeof METRICS)[N]['type'] extends T ? N : never;
}[MetricName];

export type LabelsOf<N extends MetricName> = Partial<Record<(typeof METRICS)[N]['labels'][number], string>>;

/** The metrics that `pitr status --metrics` has. */
export const STATUS_METRICS: readonly MetricName[] = METRIC_NAMES.filter(
  (name) => !('isAgents' in METRICS[name]),
);
