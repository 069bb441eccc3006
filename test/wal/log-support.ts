/** What tests of the local log have in common: entries with known content, and a log in memory. */
import type { LogClock, LogEntry, LogEvent, LogRecovery, LogVersion } from '../../engine/commit-log.ts';
import type { Files } from '../../engine/files.ts';
import { LocalLog } from '../../wal/local-log.ts';
import { LogColumns } from '../../wal/log-columns.ts';
import { FRAME, FRAME_HEADER_BYTES, FrameBuffer } from '../../wal/log-format.ts';

export const ENGINE = 'e'.repeat(32);
export const TIMELINE = '0123456789abcdef';
export const NONE: readonly LogEntry[] = [];

const T0 = 1_700_000_000_000;

/** A version whose every field follows from its LSN. */
export const version = (lsn: number, fields: Partial<LogVersion> = {}): LogVersion => ({
  lsn,
  ts: T0 + lsn,
  namespace: lsn % 3 === 0 ? 'other' : 'test',
  set: lsn % 2 === 0 ? '' : 'cities',
  digest: Buffer.alloc(20, lsn),
  generation: (lsn % 65535) + 1,
  voidTime: lsn % 5 === 0 ? 2_000_000_000 : 0,
  image: lsn % 7 === 0 ? undefined : Buffer.from(`image of ${lsn}`),
  batchMore: false,
  ...fields,
});

/** `count` versions of one batch. */
export const batch = (lsn: number, count: number): LogVersion[] =>
  Array.from({ length: count }, (_, i) => version(lsn + i, { ts: T0 + lsn, batchMore: i + 1 < count }));

export const mark = (lsn: number): LogEvent => ({ kind: 'mark', lsn, ts: T0 + lsn, name: `mark-${lsn}` });

export const clock = (lsn: number): LogClock => ({
  ts: T0 + lsn,
  lsn,
  epoch: 1,
  digests: [{ sum: '0'.repeat(32), records: 0 }],
});

/** An entry as text: comparable, and independent of the file bytes that it may be a view of. */
export const textOf = (e: LogEntry): string =>
  JSON.stringify(e, (_, v) => (v?.type === 'Buffer' ? Buffer.from(v.data).toString('hex') : v));

export const versionsOf = (versions: readonly LogVersion[]): string[] =>
  versions.map((v) => textOf({ kind: 'version', version: v }));

export interface Opened {
  readonly log: LocalLog;
  readonly recovery: LogRecovery;
  /** Versions and events that were replayed, as text. */
  readonly entries: string[];
}

export const openLog = async (
  files: Files,
  options: { afterLsn?: number; engineId?: string } = {},
): Promise<Opened> => {
  const entries: string[] = [];
  const { log, recovery } = await LocalLog.open({
    dir: '/engine',
    engineId: options.engineId ?? ENGINE,
    stream: 'main',
    timeline: TIMELINE,
    afterLsn: options.afterLsn ?? 0,
    epoch: 1,
    replay: (e) => {
      if (e.kind !== 'clock') entries.push(textOf(e));
    },
    files,
  });
  return { log, recovery, entries };
};

/** Versions as the archiver reads them: through a commits frame. */
export const columnsOf = (versions: readonly LogVersion[]): LogColumns => {
  const frames = new FrameBuffer(0, 0);
  frames.begin(FRAME.commits, 0);
  for (const v of versions) frames.version(v);
  frames.end();
  const bytes = frames.take();
  const columns = new LogColumns();
  columns.beginFile(bytes);
  columns.append(bytes.subarray(FRAME_HEADER_BYTES + 1), versions[0]?.lsn ?? 1, (why) => {
    throw new Error(why);
  });
  return columns;
};
