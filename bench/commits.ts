/**
 * Commit benchmark: how many durable writes a second the embedded engine takes, on a real directory with real syncs.
 *
 *     npm run bench -- commits [--records 1000000] [--seconds 2] [--changes 1000000] [--writers 1,64,1024]
 *                              [--batchers 1,4,16] [--repeat 3] [--dir DIR] [--no-peer] [--json]
 *
 * Single writes update a random record of `--records` (integer keys, one bin of 200 bytes), each writer waiting for its own
 * commit before the next. Batches are of 100: 80 % updates to 32 random bytes and a constant filler up to 200, 10 % inserts,
 * 10 % deletes. Latency is from call to acknowledgement. `drained` counts the time until the store holds everything, too.
 * Figures are medians of `--repeat`. The peer is SQLite in WAL mode with synchronous FULL, one transaction a commit.
 */
import { randomFillSync } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { parseArgs } from 'node:util';
import type { BatchOp } from '../engine/engine-types.ts';
import { Engine } from '../wal/engine.ts';

const VALUE_BYTES = 200;
const RANDOM_BYTES = 32;
const BATCH = 100;
const NAMESPACE = 'bench';
const SET = 'records';

export interface CommitOptions {
  /** An empty directory, or one that does not exist. */
  readonly dir: string;
  readonly records: number;
  readonly seconds: number;
  /** Changes of each run of batches. */
  readonly changes: number;
  readonly writers: readonly number[];
  readonly batchers: readonly number[];
  readonly repeat: number;
}

/** One load. Changes: single writes, or what is in the batches. */
export interface CommitFigure {
  readonly writers: number;
  readonly batch: number;
  readonly changesPerSecond: number;
  readonly drainedPerSecond: number;
  readonly p50Micros: number;
  readonly p99Micros: number;
  readonly cpuMicrosPerChange: number;
  readonly rssAnonMiB: number;
}

export interface CommitFigures {
  readonly loadedPerSecond: number;
  readonly figures: readonly CommitFigure[];
}

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** Bytes of which the first are random: from a pool, because the generator is not what is measured. */
const pool = randomFillSync(Buffer.alloc(1 << 20));
const filler = Buffer.alloc(VALUE_BYTES, 'pitr');
const newValue = (): Buffer => {
  const value = Buffer.from(filler);
  const at = Math.floor(Math.random() * (pool.length - RANDOM_BYTES));
  pool.copy(value, 0, at, at + RANDOM_BYTES);
  return value;
};

/** What runs: `one` commits some changes and says how many; it is called again and again by each writer. */
interface Load {
  readonly writers: number;
  readonly batch: number;
  readonly one: () => Promise<number>;
  readonly more: (done: number, seconds: number) => boolean;
}

const rssAnonMiB = async (): Promise<number> => {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '');
  return Number(/RssAnon:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) / 1024;
};

const run = async (load: Load, drain: () => Promise<unknown>): Promise<CommitFigure> => {
  const latencies: number[] = [];
  const cpu = process.cpuUsage();
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1000;
  let issued = 0;
  let done = 0;
  const writer = async (): Promise<void> => {
    while (load.more(issued, seconds())) {
      issued += load.batch;
      const from = performance.now();
      const changes = await load.one();
      done += changes;
      latencies.push(performance.now() - from);
    }
  };
  await Promise.all(Array.from({ length: load.writers }, writer));
  const committed = seconds();
  await drain();
  const drained = seconds();
  const { user, system } = process.cpuUsage(cpu);
  const sorted = Float64Array.from(latencies).sort();
  return {
    writers: load.writers,
    batch: load.batch,
    changesPerSecond: done / committed,
    drainedPerSecond: done / drained,
    p50Micros: sorted[Math.floor(sorted.length * 0.5)] * 1000,
    p99Micros: sorted[Math.floor(sorted.length * 0.99)] * 1000,
    cpuMicrosPerChange: (user + system) / done,
    rssAnonMiB: await rssAnonMiB(),
  };
};

const medianOf = async (repeat: number, job: () => Promise<CommitFigure>): Promise<CommitFigure> => {
  const figures: CommitFigure[] = [];
  for (let i = 0; i < repeat; i++) figures.push(await job());
  return figures.sort((a, b) => a.changesPerSecond - b.changesPerSecond)[figures.length >> 1];
};

/** Loads a new engine and measures each kind of load on it. */
export const measureCommits = async (options: CommitOptions): Promise<CommitFigures> => {
  const engine = await Engine.open({ dir: options.dir, door: false });
  const keyOf = (key: number) => ({ namespace: NAMESPACE, set: SET, key });
  /** Keys 0…keyEnd-1 were inserted; a deleted one is inserted again when it is updated. */
  let keyEnd = 0;
  const someKey = (): number => Math.floor(Math.random() * keyEnd);
  const drain = async (): Promise<unknown> => engine.sealApplied();
  const put = (key: number): BatchOp => ({ op: 'put', key: keyOf(key), bins: { v: newValue() } });
  try {
    const loaded = await run(
      {
        writers: 4,
        batch: 1000,
        one: async () => {
          const from = keyEnd;
          keyEnd += 1000;
          return (await engine.batch(Array.from({ length: 1000 }, (_, i) => put(from + i)))).length;
        },
        more: (issued) => issued < options.records,
      },
      drain,
    );
    const figures: CommitFigure[] = [];
    for (const writers of options.writers)
      figures.push(
        await medianOf(options.repeat, () =>
          run(
            {
              writers,
              batch: 1,
              one: async () => {
                await engine.put(keyOf(someKey()), { v: newValue() });
                return 1;
              },
              more: (_, seconds) => seconds < options.seconds,
            },
            drain,
          ),
        ),
      );
    const change = (): BatchOp => {
      const die = Math.random();
      if (die < 0.8) return put(someKey());
      if (die < 0.9) return put(keyEnd++);
      return { op: 'delete', key: keyOf(someKey()) };
    };
    for (const writers of options.batchers)
      figures.push(
        await medianOf(options.repeat, () =>
          run(
            {
              writers,
              batch: BATCH,
              one: async () => (await engine.batch(Array.from({ length: BATCH }, change))).length,
              more: (issued) => issued < options.changes,
            },
            drain,
          ),
        ),
      );
    return { loadedPerSecond: loaded.drainedPerSecond, figures };
  } finally {
    await engine.close();
  }
};

export interface PeerFigures {
  readonly commitsPerSecond: number;
  readonly batchChangesPerSecond: number;
}

/** SQLite with the same guarantee. It has one writer and no group commit, so the number of writers changes nothing. */
export const measureSqlite = (dir: string, records: number, seconds: number, repeat: number): PeerFigures => {
  const db = new DatabaseSync(join(dir, 'peer.sqlite'));
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
    db.exec('CREATE TABLE records (k INTEGER PRIMARY KEY, v BLOB NOT NULL)');
    const put = db.prepare('INSERT INTO records VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v');
    const transaction = (changes: number, key: (i: number) => number): void => {
      db.exec('BEGIN IMMEDIATE');
      for (let i = 0; i < changes; i++) put.run(key(i), newValue());
      db.exec('COMMIT');
    };
    for (let from = 0; from < records; from += 10_000) transaction(10_000, (i) => from + i);
    const rate = (changes: number): number => {
      const rates: number[] = [];
      for (let n = 0; n < repeat; n++) {
        const started = performance.now();
        let done = 0;
        for (; performance.now() - started < seconds * 1000; done += changes)
          transaction(changes, () => Math.floor(Math.random() * records));
        rates.push((done * 1000) / (performance.now() - started));
      }
      return median(rates);
    };
    return { commitsPerSecond: rate(1), batchChangesPerSecond: rate(BATCH) };
  } finally {
    db.close();
  }
};

const numbers = (text: string): number[] => text.split(',').filter(Boolean).map(Number);

export const benchCommits = async (args: string[]): Promise<void> => {
  const { values } = parseArgs({
    args,
    options: {
      records: { type: 'string', default: '1000000' },
      seconds: { type: 'string', default: '2' },
      changes: { type: 'string', default: '1000000' },
      writers: { type: 'string', default: '1,64,1024' },
      batchers: { type: 'string', default: '1,4,16' },
      repeat: { type: 'string', default: '3' },
      dir: { type: 'string' },
      'no-peer': { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  });
  const dir = await mkdtemp(join(values.dir ?? tmpdir(), 'pitr-bench-commits-'));
  try {
    const [records, seconds, changes, repeat] = [
      values.records,
      values.seconds,
      values.changes,
      values.repeat,
    ].map(Number);
    const machine = `${cpus().length} × ${cpus()[0].model}, Node ${process.version}`;
    const measured = await measureCommits({
      dir: join(dir, 'engine'),
      records,
      seconds,
      changes,
      writers: numbers(values.writers),
      batchers: numbers(values.batchers),
      repeat,
    });
    const peer = values['no-peer'] ? undefined : measureSqlite(dir, records, seconds, repeat);
    if (values.json) {
      process.stdout.write(`${JSON.stringify({ machine, records, changes, repeat, ...measured, peer })}\n`);
      return;
    }
    process.stdout.write(
      `${machine}\n${records} records loaded at ${(measured.loadedPerSecond / 1000).toFixed(0)} k/s (batches of 1000, drained)\n` +
        'writers  batch  changes/s   drained  p50 µs  p99 µs  CPU µs/change  RssAnon MiB\n',
    );
    const cell = (n: number, width: number): string => n.toFixed(0).padStart(width);
    for (const f of measured.figures)
      process.stdout.write(
        `${cell(f.writers, 7)}${cell(f.batch, 7)}${cell(f.changesPerSecond, 11)}${cell(f.drainedPerSecond, 10)}` +
          `${cell(f.p50Micros, 8)}${cell(f.p99Micros, 8)}${f.cpuMicrosPerChange.toFixed(1).padStart(15)}${cell(f.rssAnonMiB, 13)}\n`,
      );
    if (peer)
      process.stdout.write(
        `node:sqlite, WAL, synchronous FULL: ${cell(peer.commitsPerSecond, 0)} commits/s, ${cell(peer.batchChangesPerSecond, 0)} changes/s in batches of ${BATCH}\n`,
      );
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
};
