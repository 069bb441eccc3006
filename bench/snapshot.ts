/**
 * Snapshots of a state of `--records` records (default 1 M, 200 bytes: 48 random, repeated), of which a tenth was changed since
 * in eight newer runs: by reference, and a synthetic full with one thread and with `--workers` (default 2). Medians of `--repeat`.
 *
 *     npm run bench -- snapshot [--records 1000000] [--workers 2] [--repeat 3] [--json]
 */
import { randomBytes, randomFillSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ContentDigest, contentHash, seedOf } from '../engine/content-digest.ts';
import { newIdentity } from '../engine/identity.ts';
import { encodeImage } from '../engine/image.ts';
import { particle } from '../engine/value.ts';
import { createSnapshot } from '../snapshot/create.ts';
import { deleteSnapshot, readSnapshot } from '../snapshot/snapshots.ts';
import { Archive, segmentName } from '../wal/archive.ts';
import { emptyHead, runOf } from '../wal/catalog.ts';
import type { ArchiveEvent } from '../wal/event.ts';
import { type Run, SEGMENT_RAW_BYTES, type SegmentRef } from '../wal/segment.ts';
import { SegmentWriter, segmentRefOf } from '../wal/segment-writer.ts';
import { withEngine } from '../wal/timeline.ts';

const NAMESPACE = 'test';
const SET = 'set';
const STREAM = 'main';
const SHARDS = 16;
const CHANGED_RUNS = 8;
/** Every such record is in one of them: a tenth of all. */
const CHANGED_STEP = 10 * CHANGED_RUNS;
const START_MS = 1_700_000_000_000;

export interface SnapshotFigures {
  readonly machine: string;
  readonly records: number;
  readonly versions: number;
  readonly archiveMB: number;
  readonly referenceSeconds: number;
  readonly syntheticSeconds: number;
  readonly syntheticCpuSeconds: number;
  readonly syntheticOneThreadSeconds: number;
  readonly syntheticOneThreadCpuSeconds: number;
  readonly syntheticMB: number;
}

/** Keys in sort order: what a record's digest would be is random anyway. */
const sortedKeys = (count: number): Buffer => {
  const keys = randomBytes(count * 20);
  const order = new Uint32Array(count).map((_, i) => i);
  const head = (i: number): number => keys.readUIntBE(i * 20, 6);
  order.sort((a, b) => head(a) - head(b));
  return Buffer.concat(Array.from(order, (i) => keys.subarray(i * 20, i * 20 + 20)));
};

/** A value of 200 bytes as an image with one bin; the same buffer every time. */
const imageMaker = (): (() => Buffer) => {
  const value = Buffer.alloc(200);
  const image = encodeImage({ key: undefined, bins: new Map([['v', particle(4, value)]]) });
  const at = image.indexOf(value);
  return () => {
    randomFillSync(image, at, 48);
    for (let n = 48; n < 200; n += 48) image.copy(image, at + n, at, at + Math.min(48, 200 - n));
    return image;
  };
};

/** An archive as an engine and its agent would leave it, made directly: writing a million records is another benchmark. */
const buildArchive = async (
  dir: string,
  records: number,
): Promise<{ archive: Archive; endTs: number; versions: number }> => {
  const archive = await Archive.openOrCreate(`file:${dir}`);
  const identity = newIdentity({ stream: STREAM, shards: SHARDS }, START_MS);
  await archive.updateTimelines((all) => withEngine(all, identity, START_MS));
  const { timeline } = identity;
  const keys = sortedKeys(records);
  const view = new DataView(keys.buffer, keys.byteOffset);
  const digest = new ContentDigest(SHARDS);
  const hashes = new Map<number, Uint32Array>();
  const seed = seedOf(NAMESPACE, SET);
  const nextImage = imageMaker();
  const changes = Math.floor(records / CHANGED_STEP);
  let lsn = 1;
  const writeRun = async (level: number, from: number, step: number, count: number): Promise<Run> => {
    const lsnStart = lsn;
    const lsnEnd = lsnStart + count;
    const ts = (): number => START_MS + lsn;
    const segments: SegmentRef[] = [];
    let writer: SegmentWriter | undefined;
    const close = async (events: ArchiveEvent[]): Promise<void> => {
      if (!writer) return;
      const finished = writer.finish(events);
      const name = segmentName(timeline, STREAM, level, lsnStart, lsnEnd, 1);
      await archive.store.create(name, finished.bytes);
      segments.push(segmentRefOf(name, finished));
      writer = undefined;
    };
    let partition = -1;
    for (let n = 0, i = from; n < count; n++, i += step) {
      const w0 = view.getUint32(i * 20);
      if (writer && w0 >>> 20 !== partition && writer.rawBytes >= SEGMENT_RAW_BYTES) await close([]);
      partition = w0 >>> 20;
      writer ??= new SegmentWriter(
        {
          archive: archive.id,
          timeline,
          level,
          streams: [{ epoch: 1, stream: STREAM, lsnStart, lsnEnd }],
          generation: 1,
          salt: randomBytes(32),
          keyId: null,
        },
        [NAMESPACE],
      );
      const set = writer.setIndex(0, SET);
      const image = nextImage();
      const words = [4, 8, 12, 16].map((o) => view.getUint32(i * 20 + o));
      const hash = contentHash(seed, w0, words[0], words[1], words[2], words[3], image, 0, image.length);
      const old = hashes.get(i);
      if (old) digest.apply(partition, old, -1);
      digest.apply(partition, hash, 1);
      if (step === 1 && i % CHANGED_STEP < CHANGED_RUNS) hashes.set(i, Uint32Array.from(hash));
      writer.builder.addRow(view, i * 20, ts(), lsn, 0, 0, set, 1, 0, image, 0, image.length);
      writer.rowAdded(set, 0, image.length);
      lsn++;
    }
    await close([]);
    return runOf(level, lsnStart, lsnEnd, segments);
  };
  const runs = [await writeRun(4, 0, 1, records)];
  for (let r = 0; r < CHANGED_RUNS; r++) runs.push(await writeRun(0, r, CHANGED_STEP, changes));
  const endTs = START_MS + lsn;
  const clock = {
    kind: 'clock',
    ts: endTs,
    lsn: lsn - 1,
    stream: STREAM,
    epoch: 1,
    digests: digest.toShards(),
  } as const;
  await archive.swapHead(undefined, {
    ...emptyHead({
      archive: archive.id,
      timeline,
      stream: STREAM,
      engineId: identity.engineId,
      generation: 1,
    }),
    claim: 'bench',
    frontier: { ts: endTs, lsn: lsn - 1 },
    clock,
    runs,
  });
  return { archive, endTs, versions: lsn - 1 };
};

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

export const measureSnapshots = async (options: {
  readonly records: number;
  readonly workers: number;
  readonly repeat: number;
}): Promise<SnapshotFigures> => {
  const { records, workers, repeat } = options;
  const dir = await mkdtemp(join(tmpdir(), 'pitr-bench-snapshot-'));
  try {
    const { archive, versions, endTs } = await buildArchive(dir, records);
    const stored = (await archive.store.list('segments/')).reduce((n, o) => n + o.bytes, 0);
    let bytes = 0;
    const measure = async (kind: 'full' | 'synthetic', threads: number) => {
      const seconds: number[] = [];
      const cpu: number[] = [];
      for (let n = 0; n < repeat; n++) {
        // as a command would: nothing is open yet
        const fresh = await Archive.open(archive.url);
        const used = process.cpuUsage();
        const started = performance.now();
        const entry = await createSnapshot(fresh, { kind, workers: threads });
        seconds.push((performance.now() - started) / 1000);
        const { user, system } = process.cpuUsage(used);
        cpu.push((user + system) / 1e6);
        if (entry.records !== records || entry.endTs !== endTs)
          throw new Error(`a snapshot of ${entry.records} records, expected ${records}`);
        const { segments, digests } = await readSnapshot(fresh, entry);
        if (kind === 'synthetic' && digests === null) throw new Error('it was not compared with its source');
        bytes = segments.reduce((sum, s) => sum + s.bytes, 0);
        await deleteSnapshot(fresh, entry.id);
      }
      return { seconds: median(seconds), cpuSeconds: median(cpu) };
    };
    const reference = await measure('full', 0);
    const one = await measure('synthetic', 0);
    const many = await measure('synthetic', workers);
    return {
      machine: `${cpus().length} × ${cpus()[0].model}, Node ${process.version}`,
      records,
      versions,
      archiveMB: stored / 1e6,
      referenceSeconds: reference.seconds,
      syntheticSeconds: many.seconds,
      syntheticCpuSeconds: many.cpuSeconds,
      syntheticOneThreadSeconds: one.seconds,
      syntheticOneThreadCpuSeconds: one.cpuSeconds,
      syntheticMB: bytes / 1e6,
    };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
};

export const benchSnapshot = async (args: string[]): Promise<void> => {
  const { values } = parseArgs({
    args,
    options: {
      records: { type: 'string', default: '1000000' },
      workers: { type: 'string', default: '2' },
      repeat: { type: 'string', default: '3' },
      json: { type: 'boolean', default: false },
    },
  });
  const [records, workers, repeat] = [values.records, values.workers, values.repeat].map(Number);
  const figures = await measureSnapshots({ records, workers, repeat });
  if (values.json) {
    process.stdout.write(`${JSON.stringify(figures)}\n`);
    return;
  }
  const { machine, versions, archiveMB, referenceSeconds, syntheticMB } = figures;
  process.stdout.write(
    `${machine}\n${records} records, ${versions} versions, ${archiveMB.toFixed(0)} MB stored\n` +
      `by reference     ${referenceSeconds.toFixed(3)} s\n` +
      `synthetic full   ${figures.syntheticSeconds.toFixed(2)} s with ${workers} threads, ` +
      `${figures.syntheticCpuSeconds.toFixed(2)} CPU s; ${figures.syntheticOneThreadSeconds.toFixed(2)} s with one, ` +
      `${figures.syntheticOneThreadCpuSeconds.toFixed(2)} CPU s; ` +
      `${syntheticMB.toFixed(0)} MB written and compared with its source\n`,
  );
};
