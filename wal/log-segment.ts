import { randomBytes } from 'node:crypto';
import type { LogEvent, LogVersion } from '../engine/commit-log.ts';
import { sortKeyOf } from '../engine/partition.ts';
import { FLAG } from './block.ts';
import type { ArchiveEvent } from './event.ts';
import type { SegmentProperties, StreamSpan } from './segment.ts';
import { SegmentWriter } from './segment-writer.ts';

/** What goes into one level-0 segment: everything of an LSN range, in log order. */
export interface LogBatch {
  readonly versions: readonly LogVersion[];
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
  const { versions } = batch;
  const namespaces = [...new Set(versions.map((v) => v.namespace))].sort((a, b) =>
    Buffer.compare(Buffer.from(a), Buffer.from(b)),
  );
  const ordinals = new Map(namespaces.map((n, i) => [n, i]));
  const keys = Buffer.allocUnsafe(versions.length * 20);
  const view = new DataView(keys.buffer, keys.byteOffset, keys.length);
  const ranks = new Float64Array(versions.length);
  versions.forEach((v, i) => {
    sortKeyOf(v.digest, keys, i * 20);
    ranks[i] =
      (ordinals.get(v.namespace) as number) * 2 ** 44 +
      view.getUint32(i * 20) * 4096 +
      (view.getUint32(i * 20 + 4) >>> 20);
  });
  const order = Uint32Array.from(versions, (_, i) => i).sort(
    (a, b) =>
      ranks[a] - ranks[b] ||
      keys.compare(keys, b * 20, b * 20 + 20, a * 20, a * 20 + 20) ||
      versions[b].ts - versions[a].ts ||
      versions[b].lsn - versions[a].lsn,
  );
  const writer = new SegmentWriter(
    { ...identity, level: 0, streams: batch.streams, salt: randomBytes(32), keyId: null },
    namespaces,
  );
  const none = new Uint8Array(0);
  for (const i of order) {
    const v = versions[i];
    const namespace = ordinals.get(v.namespace) as number;
    writer.startNamespace(namespace);
    const set = writer.setIndex(namespace, v.set);
    const flags = (v.image ? 0 : FLAG.delete) | (v.batchMore ? FLAG.batchMore : 0);
    const image = v.image ?? none;
    const source = batch.streams.findIndex((s) => v.lsn >= s.lsnStart && v.lsn < s.lsnEnd);
    writer.builder.addRow(
      view,
      i * 20,
      v.ts,
      v.lsn,
      v.voidTime,
      source,
      set,
      v.generation,
      flags,
      image,
      0,
      image.length,
    );
    writer.rowAdded(set, flags, image.length);
  }
  return writer.finish(batch.events);
};
