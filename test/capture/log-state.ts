import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LogClock, LogEvent, LogTruncate, LogVersion } from '../../engine/commit-log.ts';
import { readIdentity } from '../../engine/identity.ts';
import { decodeImage } from '../../engine/image.ts';
import { LOG_DIR, LocalLog } from '../../wal/local-log.ts';

/** Everything a log says, in its order. */
export interface LogContent {
  readonly versions: readonly LogVersion[];
  readonly events: readonly LogEvent[];
  readonly clocks: readonly LogClock[];
}

/** Reads a copy of a directory's log: the directory may be in use. */
export const readLog = async (dir: string): Promise<LogContent> => {
  const copy = await mkdtemp(join(tmpdir(), 'pitr-log-'));
  try {
    await cp(join(dir, LOG_DIR), join(copy, LOG_DIR), { recursive: true });
    const identity = await readIdentity(dir);
    const versions: LogVersion[] = [];
    const events: LogEvent[] = [];
    const clocks: LogClock[] = [];
    const { log } = await LocalLog.open({
      dir: copy,
      engineId: identity.engineId,
      stream: identity.stream,
      timeline: identity.timeline,
      afterLsn: 0,
      epoch: 1,
      replay: (entry) => {
        if (entry.kind === 'version') {
          const { version: v } = entry;
          versions.push({ ...v, digest: Buffer.from(v.digest), image: v.image && Buffer.from(v.image) });
        } else if (entry.kind === 'event') events.push(entry.event);
        else clocks.push(entry.clock);
      },
    });
    await log.close();
    return { versions, events, clocks };
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
};

/** Bins of an image as text: what a test compares. */
export const textOf = (image: Uint8Array): string => {
  const { key, bins } = decodeImage(image);
  const values = [...bins].map(
    ([name, { type, bytes }]) => `${name}:${type}:${Buffer.from(bytes).toString('hex')}`,
  );
  const keyText = key ? `${key.type}:${Buffer.from(key.bytes).toString('hex')}` : '';
  return `${keyText} ${values.sort().join(' ')}`;
};

/** A record as a log has it at an instant. */
export interface RecordAt {
  readonly set: string;
  readonly generation: number;
  readonly voidTimeS: number;
  readonly text: string;
}

/** What a log says of one record at `ts`: the record, or (undefined) that it is absent; whether it says that this may be wrong (S1, S7); until when it says so, and when it expires. */
export const recordAt = (
  content: LogContent,
  versions: readonly LogVersion[],
  ts: number,
): {
  readonly record: RecordAt | undefined;
  readonly isInexact: boolean;
  readonly untilMs: number;
  readonly expiresMs: number;
  /** Of the last version, also if it has expired. */
  readonly lastText: string | undefined;
} => {
  const ordered = [...versions].sort((a, b) => a.ts - b.ts || a.lsn - b.lsn);
  const before = ordered.filter((v) => v.ts <= ts);
  const chosen = before.at(-1);
  const after = ordered[before.length];
  const cuts = content.events.filter(
    (e): e is LogTruncate =>
      e.kind === 'truncate' &&
      chosen !== undefined &&
      e.namespace === chosen.namespace &&
      (e.set === null || e.set === chosen.set) &&
      (chosen.seen?.lutMs ?? chosen.ts) < e.cutoffLut &&
      (chosen.ts < e.ts || (chosen.ts === e.ts && chosen.lsn < e.lsn)),
  );
  const isHidden = cuts.some((e) => e.ts <= ts);
  const isExpired = chosen !== undefined && chosen.voidTime !== 0 && chosen.voidTime < Math.floor(ts / 1000);
  const isIn = (start: number, end: number): boolean => start < ts && ts <= end;
  const isOpen = (v: LogVersion | undefined): boolean =>
    v?.seen !== undefined && isIn(v.seen.windowStartMs, v.seen.windowEndMs);
  const isLate = after?.seen !== undefined && after.seen.lutMs <= ts;
  const isMissed = after?.seen !== undefined && after.seen.missed > 0 && after.seen.missedAfterMs < ts;
  const isCut = cuts.some((e) => isIn(e.windowStartMs ?? e.ts, e.windowEndMs ?? e.ts));
  const isInexact = isOpen(chosen) || isOpen(after) || isLate || isMissed || isCut;
  const record =
    chosen?.image && !isHidden && !isExpired
      ? {
          set: chosen.set,
          generation: chosen.generation,
          voidTimeS: chosen.voidTime,
          text: textOf(chosen.image),
        }
      : undefined;
  const expiresMs =
    record && record.voidTimeS !== 0 ? (record.voidTimeS + 1) * 1000 : Number.POSITIVE_INFINITY;
  return {
    record,
    isInexact,
    lastText: chosen?.image && textOf(chosen.image),
    untilMs: Math.min(after?.ts ?? Number.POSITIVE_INFINITY, expiresMs),
    expiresMs,
  };
};

/** Versions by digest, hex. */
export const byDigest = (versions: readonly LogVersion[]): Map<string, LogVersion[]> => {
  const records = new Map<string, LogVersion[]>();
  for (const version of versions) {
    const id = `${version.namespace} ${Buffer.from(version.digest).toString('hex')}`;
    const list = records.get(id);
    if (list) list.push(version);
    else records.set(id, [version]);
  }
  return records;
};
