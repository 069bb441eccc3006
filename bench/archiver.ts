/**
 * Archiver benchmark: what it costs to ship a log, and to merge what was shipped. Fills an engine with `--records` records
 * (integer keys that are stored, 200-byte values of 48 random bytes repeated), then makes as many changes in batches of 100
 * (80 % updates to 32 random bytes and a filler, 10 % inserts, 10 % deletes); then ships the whole log, and merges all runs.
 * Counts every object of the archive at the end. `--value 16`: small records instead. `--latency 50`: each request to the archive
 * takes that many ms more. Medians of `--repeat`.
 *
 *     npm run bench -- archiver [--records 1000000] [--value 200] [--repeat 3] [--latency 0] [--keep DIR] [--json]
 */
import { randomBytes, randomFillSync } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { BatchOp } from '../engine/engine-types.ts';
import { readIdentity, writeIdentity } from '../engine/identity.ts';
import type { ObjectStore } from '../engine/object-store.ts';
import { openObjectStore } from '../engine/open-object-store.ts';
import { createSnapshot } from '../snapshot/create.ts';
import { Archiver } from '../wal/archiver.ts';
import { Engine } from '../wal/engine.ts';

export interface ArchiverBenchOptions {
  readonly records: number;
  readonly valueBytes: number;
  readonly repeat: number;
  /** Added to each request to the archive, ms. */
  readonly latencyMs: number;
  /** Engine directory to fill, or that was filled before; default a temporary one. */
  readonly keep?: string;
}

export interface ArchiverPhase {
  readonly versions: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly versionsPerSecond: number;
  readonly versionsPerCpuSecond: number;
  /** Of what it read: log bytes for shipping, stored segment bytes for merging. */
  readonly mbPerSecond: number;
  readonly rssAnonMB: number;
}

export interface ArchiverFigures {
  readonly ship: ArchiverPhase;
  readonly merge: ArchiverPhase;
  readonly logMB: number;
  /** All objects, in MB of 10^6: as shipped, and merged in full with a snapshot by reference. */
  readonly shippedMB: number;
  readonly archiveMB: number;
  readonly runs: number;
}

const BATCH = 100;
const MB = 1e6;

const keyOf = (key: number) => ({ namespace: 'bench', set: 'r', key });

const repeated = (bytes: number): Buffer => {
  const value = Buffer.alloc(bytes);
  randomFillSync(value, 0, Math.min(48, bytes));
  for (let at = 48; at < bytes; at += 48) value.copy(value, at, 0, Math.min(48, bytes - at));
  return value;
};

const changed = (bytes: number): Buffer => {
  const value = Buffer.alloc(bytes, 0x2e);
  randomFillSync(value, 0, Math.min(32, bytes));
  return value;
};

/** Batches that are on their way at once. */
const AT_ONCE = 8;

const fill = async (dir: string, archive: string, records: number, valueBytes: number): Promise<void> => {
  await Engine.init(dir, { archive });
  const engine = await Engine.open({ dir });
  let waiting: Promise<unknown>[] = [];
  const send = async (ops: BatchOp[]): Promise<void> => {
    waiting.push(engine.batch(ops));
    if (waiting.length >= AT_ONCE) {
      await Promise.all(waiting);
      waiting = [];
    }
  };
  for (let n = 0; n < records; n += BATCH)
    await send(
      Array.from({ length: BATCH }, (_, i) => ({
        op: 'put',
        key: keyOf(n + i),
        bins: { v: repeated(valueBytes) },
      })),
    );
  let next = records;
  let gone = 0;
  for (let n = 0; n < records; n += BATCH)
    await send(
      Array.from({ length: BATCH }, (_, i): BatchOp => {
        if (i % 10 === 0) return { op: 'put', key: keyOf(next++), bins: { v: changed(valueBytes) } };
        // the oldest go; updates are of the rest
        if (i % 10 === 1) return { op: 'delete', key: keyOf(gone++) };
        const key = gone + BATCH + Math.floor(Math.random() * (records - gone - BATCH));
        return { op: 'put', key: keyOf(key), bins: { v: changed(valueBytes) } };
      }),
    );
  await Promise.all(waiting);
  await engine.close();
};

const bytesBelow = async (dir: string): Promise<number> => {
  let bytes = 0;
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  return bytes;
};

const rssAnonMB = (): number => {
  try {
    const kb = /RssAnon:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    return (Number(kb) * 1024) / MB;
  } catch {
    return Number.NaN;
  }
};

/** Runs `job`, watching memory meanwhile. CPU seconds are those of all threads. */
const measured = async (bytes: number, job: () => Promise<number>): Promise<ArchiverPhase> => {
  let peak = rssAnonMB();
  const timer = setInterval(() => {
    peak = Math.max(peak, rssAnonMB());
  }, 20);
  const used = process.cpuUsage();
  const started = performance.now();
  const versions = await job();
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(used);
  clearInterval(timer);
  const cpuSeconds = (user + system) / 1e6;
  return {
    versions,
    seconds,
    cpuSeconds,
    versionsPerSecond: versions / seconds,
    versionsPerCpuSecond: versions / cpuSeconds,
    mbPerSecond: bytes / MB / seconds,
    rssAnonMB: Math.max(peak, rssAnonMB()),
  };
};

const median = <T>(list: readonly T[], by: (item: T) => number): T =>
  [...list].sort((a, b) => by(a) - by(b))[list.length >> 1];

/** A store of which each request takes longer. */
const slowed = (store: ObjectStore, latencyMs: number): ObjectStore => {
  const late = async <T>(request: () => Promise<T>): Promise<T> => {
    await sleep(latencyMs);
    return request();
  };
  return {
    url: store.url,
    create: (name, bytes) => late(() => store.create(name, bytes)),
    read: (name, range) => late(() => store.read(name, range)),
    size: (name) => late(() => store.size(name)),
    list: (prefix) => late(() => store.list(prefix)),
    delete: (names) => late(() => store.delete(names)),
    readSwap: (name) => late(() => store.readSwap(name)),
    swap: (name, expected, bytes) => late(() => store.swap(name, expected, bytes)),
  };
};

/** One figure for each phase: the run with the median time of its phase. */
export const measureArchiver = async (options: ArchiverBenchOptions): Promise<ArchiverFigures> => {
  const scratch = await mkdtemp(join(tmpdir(), 'pitr-bench-archiver-'));
  try {
    const filled = options.keep ?? join(scratch, 'filled');
    const [engine, archive] = [join(filled, 'engine'), join(filled, 'archive')];
    if (!existsSync(engine)) await fill(engine, `file:${archive}`, options.records, options.valueBytes);
    const logBytes = await bytesBelow(join(engine, 'log'));
    const rounds: ArchiverFigures[] = [];
    for (let n = 0; n < options.repeat; n++) {
      const at = join(scratch, `${n}`);
      await cp(join(engine, 'log'), join(at, 'engine', 'log'), { recursive: true });
      await cp(archive, join(at, 'archive'), { recursive: true });
      const identity = await readIdentity(engine);
      const url = `file:${join(at, 'archive')}`;
      await writeIdentity(join(at, 'engine'), { ...identity, archive: { ...identity.archive!, url } });
      rounds.push(await round(join(at, 'engine'), join(at, 'archive'), logBytes, options.latencyMs));
      await rm(at, { recursive: true });
    }
    return {
      ...rounds[0],
      ship: median(rounds, (r) => r.ship.seconds).ship,
      merge: median(rounds, (r) => r.merge.seconds).merge,
    };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
};

const round = async (
  dir: string,
  archiveDir: string,
  logBytes: number,
  latencyMs: number,
): Promise<ArchiverFigures> => {
  const slow = latencyMs > 0 ? { store: slowed(openObjectStore(`file:${archiveDir}`), latencyMs) } : {};
  const archiver = await Archiver.open(dir, { retireMs: 0, ...slow });
  try {
    const ship = await measured(logBytes, () => archiver.archivePending());
    const shipped = await bytesBelow(archiveDir);
    const { runs } = archiver.head;
    const stored = runs.flatMap((r) => r.segments).reduce((n, s) => n + s.bytes, 0);
    const merge = await measured(stored, async () => {
      await archiver.compact({ full: true });
      return runs.flatMap((r) => r.segments).reduce((n, s) => n + s.rows, 0);
    });
    await createSnapshot(archiver.archive, { kind: 'full', label: randomBytes(4).toString('hex') });
    return {
      ship,
      merge,
      logMB: logBytes / MB,
      shippedMB: shipped / MB,
      archiveMB: (await bytesBelow(archiveDir)) / MB,
      runs: runs.length,
    };
  } finally {
    await archiver.close();
  }
};

export const benchArchiver = async (args: string[]): Promise<void> => {
  const { values } = parseArgs({
    args,
    options: {
      records: { type: 'string', default: '1000000' },
      value: { type: 'string', default: '200' },
      repeat: { type: 'string', default: '3' },
      latency: { type: 'string', default: '0' },
      keep: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const [records, valueBytes, repeat, latencyMs] = [
    values.records,
    values.value,
    values.repeat,
    values.latency,
  ].map(Number);
  const keep = values.keep === undefined ? {} : { keep: values.keep };
  const figures = await measureArchiver({ records, valueBytes, repeat, latencyMs, ...keep });
  const machine = `${cpus().length} × ${cpus()[0].model}, Node ${process.version}`;
  if (values.json) {
    process.stdout.write(
      `${JSON.stringify({ machine, records, valueBytes, repeat, latencyMs, ...figures })}\n`,
    );
    return;
  }
  const line = (name: string, p: ArchiverPhase): string =>
    `${name.padEnd(6)} ${p.versions} versions in ${p.seconds.toFixed(2)} s: ${(p.versionsPerSecond / 1e3).toFixed(0)} k/s, ` +
    `${p.mbPerSecond.toFixed(0)} MB/s, CPU ${p.cpuSeconds.toFixed(2)} s (${(p.versionsPerCpuSecond / 1e3).toFixed(0)} k per CPU second), ` +
    `RssAnon ${p.rssAnonMB.toFixed(0)} MB\n`;
  process.stdout.write(
    `${machine}\n${records} records and as many changes, values of ${valueBytes} bytes, log ${figures.logMB.toFixed(0)} MB\n` +
      line('ship', figures.ship) +
      line('merge', figures.merge) +
      `archive ${figures.shippedMB.toFixed(1)} MB in ${figures.runs} runs as shipped, ${figures.archiveMB.toFixed(1)} MB merged, with a snapshot by reference\n`,
  );
};
