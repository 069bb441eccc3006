import { randomBytes } from 'node:crypto';
import type { LogEvent } from '../engine/commit-log.ts';
import type { ArchiveEvent } from './event.ts';
import type { LogColumns } from './log-columns.ts';
import { sortedRows } from './log-order.ts';
import type { SegmentProperties, StreamSpan } from './segment.ts';
import { SegmentWriter } from './segment-writer.ts';
import { VersionDigest, versionSeed } from './version-digest.ts';

/** What goes into one level-0 segment: everything of an LSN range, in log order. */
export interface LogBatch {
  readonly versions: LogColumns;
  readonly events: readonly ArchiveEvent[];
  /** Spans by ownership epoch, in order. */
  readonly streams: readonly StreamSpan[];
}

/** A log event as the archive keeps it. */
export const archiveEventOf = (event: LogEvent, stream: string, epoch: number): ArchiveEvent =>
  event.kind === 'ownership' ? { ...event, stream, epoch: event.epoch } : { ...event, stream, epoch };

/** Sorts versions of the log into a segment: (namespace, partition, digest, ts descending, LSN descending). */
export const segmentOfLog = (
  batch: LogBatch,
  identity: { archive: string; timeline: string; generation: number },
): { bytes: Buffer; properties: SegmentProperties; crc: string } => {
  const { versions, streams } = batch;
  const { scopes, keys, ts, lsn, voidTime, scope, generation, flags, file, files, imageStart, imageEnd } =
    versions;
  const namespaces = [...new Set(scopes.map((s) => s.namespace))].sort((a, b) =>
    Buffer.compare(Buffer.from(a), Buffer.from(b)),
  );
  const namespaceOf = Uint32Array.from(scopes, (s) => namespaces.indexOf(s.namespace));
  const writer = new SegmentWriter(
    { ...identity, level: 0, streams, salt: randomBytes(32), keyId: null },
    namespaces,
  );
  const setOf = new Int32Array(scopes.length).fill(-1);
  const seeds = scopes.map((s) =>
    Uint32Array.from(streams, ({ epoch, stream }) => versionSeed(s.namespace, s.set, epoch, stream)),
  );
  const view = new DataView(keys.buffer, keys.byteOffset, keys.length);
  const digest = new VersionDigest();
  for (const i of sortedRows(versions, namespaceOf)) {
    const id = scope[i];
    const namespace = namespaceOf[id];
    writer.startNamespace(namespace);
    if (setOf[id] < 0) setOf[id] = writer.setIndex(namespace, scopes[id].set);
    const rowFlags = flags[i];
    let source = 0;
    while (lsn[i] >= streams[source].lsnEnd) source++;
    const at = i * 20;
    const [bytes, start, end] = [files[file[i]], imageStart[i], imageEnd[i]];
    writer.builder.addRow(
      view,
      at,
      ts[i],
      lsn[i],
      voidTime[i],
      source,
      setOf[id],
      generation[i],
      rowFlags,
      bytes,
      start,
      end,
    );
    writer.rowAdded(setOf[id], rowFlags, end - start);
    digest.add(
      seeds[id][source],
      view.getUint32(at),
      view.getUint32(at + 4),
      view.getUint32(at + 8),
      view.getUint32(at + 12),
      view.getUint32(at + 16),
      ts[i],
      lsn[i],
      voidTime[i],
      generation[i],
      rowFlags,
      bytes,
      start,
      end,
    );
  }
  return writer.finish(batch.events, digest);
};
