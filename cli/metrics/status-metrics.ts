import { SPOOL_POLICIES } from '../../engine/spool.ts';
import type { LocalStatus } from '../local-status.ts';
import type { Problem, Status, StreamStatus } from '../status.ts';
import { STATUS_METRICS } from './metric-table.ts';
import type { Metrics } from './metrics.ts';

/** All codes, so that a problem that went is a 0 and not a series that ends. */
const PROBLEMS: Readonly<Record<Problem['code'], true>> = {
  'archive-away': true,
  fenced: true,
  'log-rolled-back': true,
  outage: true,
  'log-quota': true,
  dropped: true,
  'writer-failed': true,
  'source-failing': true,
  'source-waits': true,
  'unreadable-records': true,
  'spool-failed': true,
  lag: true,
  'clock-skew': true,
  'nothing-restorable': true,
  gap: true,
  hole: true,
  window: true,
  'verify-failed': true,
  unreadable: true,
  unregistered: true,
};

/** A stream of a timeline, as labels. */
export interface StreamLabels {
  readonly stream: string;
  readonly timeline: string;
}

/** Before statuses are told: series of the last time are gone. */
export const forgetStatus = (metrics: Metrics): void => metrics.forget(STATUS_METRICS);

/** Tells a status; ages of streams count to `nowMs`, by default when the status was made. */
export const tellStatus = (metrics: Metrics, status: Status, nowMs: number = status.nowMs): void => {
  const { timeline, ranges, problems, lastSnapshot } = status;
  const isUp = status.archive.isReachable;
  metrics.set('pitr_up', { timeline }, isUp);
  metrics.set('pitr_green', { timeline }, status.green);
  for (const kind of Object.keys(PROBLEMS))
    metrics.set('pitr_problems', { timeline, kind }, problems.filter((p) => p.code === kind).length);
  for (const s of status.streams) tellStream(metrics, s, { stream: s.stream, timeline }, nowMs);
  tellGaps(metrics, status);
  // without the archive nothing is known of all this, and 0 would be a statement
  if (!isUp) return;
  metrics.set('pitr_restorable_ranges', { timeline }, ranges.length);
  metrics.setInstant('pitr_restorable_start_timestamp_seconds', { timeline }, ranges[0]?.fromTs);
  metrics.setInstant('pitr_restorable_end_timestamp_seconds', { timeline }, status.contiguousEnd);
  metrics.setInstant('pitr_restorable_age_seconds', { timeline }, status.lagMs);
  metrics.set('pitr_snapshots', { timeline }, status.snapshots);
  metrics.set('pitr_leases', { timeline }, status.leases.length);
  metrics.setInstant(
    'pitr_job_last_success_timestamp_seconds',
    { kind: 'snapshot', timeline },
    lastSnapshot?.createdMs,
  );
  metrics.setInstant(
    'pitr_job_last_success_timestamp_seconds',
    { kind: 'verify', timeline },
    status.lastGoodVerify?.atMs,
  );
};

/** Gaps of this timeline's own streams; those before a fork are told of the timeline that has them. */
const tellGaps = (metrics: Metrics, { streams, holes, timeline }: Status): void => {
  for (const { stream, written } of streams) {
    if (!written) continue;
    const gaps = holes.filter((h) => h.stream === stream && h.timeline === timeline);
    const acknowledged = gaps.filter((h) => h.acknowledged).length;
    metrics.set('pitr_gaps', { stream, timeline, kind: 'acknowledged' }, acknowledged);
    metrics.set('pitr_gaps', { stream, timeline, kind: 'unacknowledged' }, gaps.length - acknowledged);
  }
};

const tellStream = (metrics: Metrics, s: StreamStatus, labels: StreamLabels, nowMs: number): void => {
  const { frontierTs, written, local } = s;
  // absent: the archive is away, or has nothing of the stream yet
  if (written) {
    metrics.setInstant('pitr_frontier_timestamp_seconds', labels, frontierTs);
    metrics.setInstant('pitr_frontier_age_seconds', labels, frontierTs === null ? null : nowMs - frontierTs);
    for (const [kind, { versions, bytes }] of [
      ['seal', written.seals],
      ['merge', written.merges],
    ] as const) {
      metrics.count('pitr_archived_changes_total', { ...labels, kind }, versions);
      metrics.count('pitr_archived_bytes_total', { ...labels, kind }, bytes);
    }
    metrics.set('pitr_archive_bytes', labels, s.bytes);
    metrics.set('pitr_archive_segments', labels, s.segments);
    metrics.set('pitr_runs', labels, s.runs);
  }
  metrics.set('pitr_archived_lsn', labels, s.lsn);
  if (local) tellLocal(metrics, local, labels);
};

const tellLocal = (metrics: Metrics, local: LocalStatus, labels: StreamLabels): void => {
  const { writer, outage, dropped } = local;
  const spool = writer?.spool;
  metrics.set('pitr_writer_up', labels, local.hasWriter);
  metrics.set('pitr_writer_failed', labels, Boolean(writer?.failure));
  metrics.set('pitr_agent_up', labels, local.hasAgent);
  metrics.set('pitr_spool_bytes', labels, spool?.waitingBytes ?? local.waitingBytes);
  metrics.set('pitr_spool_spilled_bytes', labels, spool?.spilledBytes);
  metrics.set('pitr_spool_files', labels, local.waitingFiles);
  metrics.setInstant('pitr_spool_oldest_timestamp_seconds', labels, local.waitingSinceMs);
  metrics.set('pitr_spool_quota_bytes', labels, local.quotaBytes);
  for (const kind of SPOOL_POLICIES)
    metrics.set('pitr_spool_policy', { ...labels, kind }, kind === local.policy);
  metrics.set('pitr_spool_disk_low', labels, spool?.diskLow);
  metrics.set('pitr_spool_blocked_writers', labels, spool?.blockedWriters ?? 0);
  metrics.set(
    'pitr_spool_dropped_bytes',
    labels,
    dropped.reduce((n, d) => n + d.bytes, 0),
  );
  metrics.set('pitr_outage', labels, outage !== null);
  metrics.setInstant('pitr_outage_since_timestamp_seconds', labels, outage?.sinceMs);
  metrics.set('pitr_outage_tries', labels, outage?.tries ?? 0);
};
