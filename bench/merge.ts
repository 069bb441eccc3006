/**
 * Merge micro-benchmark: 10 runs of 1 M versions each, merged (a) to a counter, (b) into a new run. Versions carry
 * `--image` bytes (default 200: 48 random, repeated). Figures are medians of `--repeat` merges on one core.
 *
 *     npm run bench -- merge [--runs 10] [--rows 1000000] [--image 200] [--repeat 3] [--json]
 */
import { randomBytes, randomFillSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { isolated, jobOf } from '../cli/bench/isolate.ts';
import { median, timed } from '../cli/bench/measure.ts';
import { type Memory, memoryOf } from '../cli/bench/memory.ts';
import { DirectoryStore } from '../engine/directory-store.ts';
import { Merge, type MergeVisitor } from '../wal/merge.ts';
import { RunWriter } from '../wal/run-writer.ts';
import type { SegmentHeader, StreamSpan } from '../wal/segment.ts';
import { SegmentReader } from '../wal/segment-reader.ts';
import { SegmentWriter, segmentRefOf } from '../wal/segment-writer.ts';

const ARCHIVE = '0'.repeat(32);

/** Half of the keys of a run are its own, half come from a pool that all runs share: updates of the same records. */
const buildRun = async (
  store: DirectoryStore,
  run: number,
  rows: number,
  imageBytes: number,
): Promise<SegmentReader> => {
  const keys = randomBytes(rows * 20);
  const pool = Buffer.alloc(20);
  for (let i = 0; i < rows; i += 2) {
    pool.writeUInt32BE(Math.imul(i + 1, 2654435761) >>> 0, 0);
    pool.writeUInt32BE(Math.imul(i + 1, 2246822519) >>> 0, 4);
    pool.copy(keys, i * 20);
  }
  const order = new Float64Array(rows);
  for (let i = 0; i < rows; i++) order[i] = Math.floor(keys.readUInt32BE(i * 20) / 2) * 2 ** 21 + i;
  order.sort();
  const stream: StreamSpan = {
    epoch: 1,
    stream: 'bench',
    lsnStart: run * rows + 1,
    lsnEnd: (run + 1) * rows + 1,
  };
  const header: SegmentHeader = {
    archive: ARCHIVE,
    timeline: 'bench',
    level: 0,
    streams: [stream],
    generation: 1,
    salt: randomBytes(32),
    keyId: null,
  };
  const writer = new SegmentWriter(header, ['test']);
  writer.startNamespace(0);
  const set = writer.setIndex(0, 'set');
  const view = new DataView(keys.buffer, keys.byteOffset);
  const image = Buffer.alloc(imageBytes);
  for (let j = 0; j < rows; j++) {
    const i = order[j] % 2 ** 21;
    randomFillSync(image, 0, Math.min(48, imageBytes));
    for (let at = 48; at < imageBytes; at += 48) image.copy(image, at, 0, Math.min(48, imageBytes - at));
    const ts = 1_700_000_000_000 + run * 1_000_000 + i;
    writer.builder.addRow(view, i * 20, ts, stream.lsnStart + i, 0, 0, set, 1, 0, image, 0, imageBytes);
    writer.rowAdded(set, 0, imageBytes);
  }
  const finished = writer.finish([]);
  const ref = segmentRefOf(`run-${run}.seg`, finished);
  await store.create(ref.name, finished.bytes);
  return SegmentReader.open(store, ref, ARCHIVE);
};

class Counter implements MergeVisitor {
  versions = 0;
  records = 0;
  row(_cursor: unknown, first: boolean): boolean {
    this.versions++;
    if (first) this.records++;
    return false;
  }
  async drain(): Promise<void> {}
}

export interface MergeFigure extends Memory {
  readonly name: string;
  readonly versionsPerSecond: number;
  readonly versionsPerCpuSecond: number;
  readonly seconds: number;
}

export interface MergeFigures {
  readonly storedMB: number;
  readonly figures: readonly MergeFigure[];
}

const measure = async (
  name: string,
  versions: number,
  repeat: number,
  job: (n: number) => Promise<void>,
): Promise<MergeFigure> => {
  const runs = [];
  for (let n = 0; n < repeat; n++) runs.push(await timed(() => job(n)));
  const seconds = median(runs.map((r) => r.seconds));
  return {
    name,
    seconds,
    versionsPerSecond: versions / seconds,
    versionsPerCpuSecond: versions / median(runs.map((r) => r.cpuSeconds)),
    ...(memoryOf('self') ?? { rssAnonMB: Number.NaN, rssFileMB: Number.NaN }),
  };
};

interface MergeArgs {
  /** Where to make a directory for the runs. */
  readonly dir: string;
  readonly runs: number;
  readonly rows: number;
  readonly image: number;
  readonly repeat: number;
}

export const mergeJob = jobOf(import.meta.url, 'merge');
/** First figure: to a counter; second: into a new run. */
export const merge = async ({ dir: parent, runs, rows, image, repeat }: MergeArgs): Promise<MergeFigures> => {
  const dir = await mkdtemp(join(parent, 'pitr-bench-merge-'));
  try {
    const store = new DirectoryStore({ dir });
    const readers: SegmentReader[] = [];
    for (let run = 0; run < runs; run++) readers.push(await buildRun(store, run, rows, image));
    const inputs = readers.map((r) => [r]);
    const versions = runs * rows;
    const figures = [
      await measure('merge', versions, repeat, async () => {
        const counter = new Counter();
        await new Merge(inputs).run(counter);
        if (counter.versions !== versions)
          throw new Error(`merged ${counter.versions} of ${versions} versions`);
      }),
      await measure('merge and write', versions, repeat, async (n) => {
        const merged = new Merge(inputs);
        const streams: StreamSpan[] = [{ epoch: 1, stream: 'bench', lsnStart: 1, lsnEnd: versions + 1 }];
        const out = new RunWriter(
          {
            store,
            archive: ARCHIVE,
            timeline: 'bench',
            level: 1,
            generation: 1,
            streams,
            namespaces: merged.namespaces,
            nameOf: (i) => `out-${n}-${i}.seg`,
          },
          merged.sources,
          [],
        );
        await merged.run({
          row: (cursor) => out.append(cursor, cursor.block.voidTime[cursor.row]),
          drain: () => out.flush(),
        });
        const refs = await out.finish();
        await store.delete(refs.map((r) => r.name));
      }),
    ];
    return { storedMB: readers.reduce((n, r) => n + r.ref.bytes, 0) / 1e6, figures };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
};

export const benchMerge = async (args: string[]): Promise<void> => {
  const { values } = parseArgs({
    args,
    options: {
      runs: { type: 'string', default: '10' },
      rows: { type: 'string', default: '1000000' },
      image: { type: 'string', default: '200' },
      repeat: { type: 'string', default: '3' },
      json: { type: 'boolean', default: false },
    },
  });
  const [runs, rows, image, repeat] = [values.runs, values.rows, values.image, values.repeat].map(Number);
  const { value } = await isolated<MergeFigures>(mergeJob, { dir: tmpdir(), runs, rows, image, repeat });
  const machine = `${cpus().length} × ${cpus()[0].model}, Node ${process.version}`;
  if (values.json) {
    process.stdout.write(
      `${JSON.stringify({ bench: 'merge', machine, runs, rows, image, repeat, ...value })}\n`,
    );
    return;
  }
  process.stdout.write(
    `${machine}\n${runs} runs × ${rows} versions, images of ${image} bytes, ${value.storedMB.toFixed(0)} MB stored\n`,
  );
  for (const f of value.figures)
    process.stdout.write(
      `${f.name.padEnd(16)} ${(f.versionsPerSecond / 1e6).toFixed(2)} M versions/s (wall), ${(f.versionsPerCpuSecond / 1e6).toFixed(2)} M per CPU second, ${f.seconds.toFixed(2)} s, RssAnon ${f.rssAnonMB.toFixed(0)} MB\n`,
    );
};
