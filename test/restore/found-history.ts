/** A log as a capture writes it, with its archive, and the same history as plain lists: what the model is computed of. */
import { existsSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ManualClock } from '../../engine/clock.ts';
import type { LogDefinition, LogTruncate, Sighting } from '../../engine/commit-log.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import { encodeImage } from '../../engine/image.ts';
import { resolveKey } from '../../engine/record-key.ts';
import { encodeState } from '../../engine/state-record.ts';
import { addToDigest } from '../../engine/store.ts';
import { toParticle } from '../../engine/value.ts';
import type { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { LocalLog } from '../../wal/local-log.ts';

/** So that a whole second begins while a test's history lasts. */
export const T0 = 1_750_000_000_980;
export const SECOND = 1_750_000_001;

export interface Found {
  readonly key: string;
  readonly set: string;
  readonly ts: number;
  readonly lsn: number;
  /** Undefined: a delete. */
  readonly value: number | undefined;
  readonly voidTime: number;
  readonly seen: Sighting;
}

export const idOf = (key: string, set: string) => resolveKey({ namespace: 'test', set, key });

const imageOf = (v: Found, value: number): Buffer =>
  encodeImage({ key: idOf(v.key, v.set).storedKey, bins: new Map([['n', toParticle(value)]]) });

/** What the state at `ts` is, after S1, from the plain lists. Expired records are in it. */
export const storedAt = (
  found: readonly Found[],
  truncations: readonly LogTruncate[],
  ts: number,
): Map<string, Found> => {
  const state = new Map<string, Found>();
  for (const key of new Set(found.map((v) => v.key))) {
    const chosen = newestAt(found, key, ts);
    if (chosen?.value === undefined) continue;
    const isHidden = truncations.some((e) => e.ts <= ts && covers(e, chosen));
    if (!isHidden) state.set(key, chosen);
  }
  return state;
};

export const newestAt = (found: readonly Found[], key: string, ts: number): Found | undefined =>
  found
    .filter((v) => v.key === key && v.ts <= ts)
    .sort((a, b) => a.ts - b.ts || a.lsn - b.lsn)
    .at(-1);

/** Does the truncation hide the version once it counts? */
export const covers = (e: LogTruncate, v: Found): boolean =>
  v.ts < e.ts && v.seen.lutMs < e.cutoffLut && (e.set === null || e.set === v.set);

export class FoundHistory {
  readonly found: Found[] = [];
  readonly truncations: LogTruncate[] = [];
  readonly definitions: LogDefinition[] = [];
  readonly clock = new ManualClock(T0);
  /** Stated last. */
  frontier = T0;
  /** What the archive has: instants up to here can be asked for. */
  archivedTs = -1;
  readonly dir: string;
  readonly url: string;
  readonly archive: Archive;
  readonly archiver: Archiver;
  readonly #log: LocalLog;
  #lsn = 0;

  private constructor(dir: string, url: string, archive: Archive, archiver: Archiver, log: LocalLog) {
    this.dir = dir;
    this.url = url;
    this.archive = archive;
    this.archiver = archiver;
    this.#log = log;
  }

  static async open(): Promise<FoundHistory> {
    const root = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
    const dir = await fs.mkdtemp(join(root, 'pitr-found-'));
    const url = `file:${join(dir, 'archive')}`;
    const clock = new ManualClock(T0);
    const identity = await Engine.init(join(dir, 'source'), { archive: url, clock });
    const { engineId, stream, timeline } = identity;
    const { log } = await LocalLog.open({
      dir: join(dir, 'source'),
      engineId,
      stream,
      timeline,
      afterLsn: 0,
      epoch: 1,
      replay: () => undefined,
    });
    const archiver = await Archiver.open(join(dir, 'source'), { adopt: false, clock });
    return new FoundHistory(dir, url, archiver.archive, archiver, log);
  }

  async close(): Promise<void> {
    await this.archiver.close();
    await this.#log.close();
    await fs.rm(this.dir, { recursive: true });
  }

  get lsn(): number {
    return this.#lsn;
  }

  /** ts as F2 has it: above the frontier, not before the LUT, and never falling for a record. */
  tsFor(key: string, lutMs: number): number {
    const last = this.found.findLast((v) => v.key === key)?.ts ?? 0;
    return Math.max(lutMs, this.frontier + 1, last);
  }

  find(v: Omit<Found, 'ts' | 'lsn' | 'seen'> & { readonly seen: Omit<Sighting, 'late'> }): Found {
    const ts = this.tsFor(v.key, v.seen.lutMs);
    const whole = { ...v, ts, lsn: ++this.#lsn, seen: { ...v.seen, late: ts > v.seen.lutMs } };
    this.#log.append([
      {
        lsn: whole.lsn,
        ts,
        namespace: 'test',
        set: v.set,
        digest: idOf(v.key, v.set).digest,
        generation: 1,
        voidTime: v.voidTime,
        image: v.value === undefined ? undefined : imageOf(whole, v.value),
        batchMore: false,
        seen: whole.seen,
      },
    ]);
    this.found.push(whole);
    return whole;
  }

  truncate(e: Omit<LogTruncate, 'kind' | 'lsn' | 'namespace' | 'partitions'>): void {
    const event = {
      kind: 'truncate',
      lsn: ++this.#lsn,
      namespace: 'test',
      partitions: '0-4095',
      ...e,
    } as const;
    this.#log.appendEvent(event);
    this.truncations.push(event);
  }

  define(name: string, body: Buffer | null, ts: number): void {
    const event: LogDefinition = {
      kind: 'definition',
      lsn: ++this.#lsn,
      ts,
      what: 'udf',
      namespace: null,
      name,
      body,
    };
    this.#log.appendEvent(event);
    this.definitions.push(event);
  }

  #clockFrame(ts: number) {
    const digest = new ContentDigest(16);
    for (const v of storedAt(this.found, this.truncations, ts).values()) {
      const header = { generation: 1, voidTime: v.voidTime, ts: v.ts, lsn: v.lsn, lut: v.seen.lutMs };
      const value = encodeState(header, v.set, imageOf(v, v.value as number));
      addToDigest(digest, idOf(v.key, v.set).storeKey, value, 1);
    }
    this.frontier = ts;
    return { ts, lsn: this.#lsn, epoch: 1, digests: digest.toShards() };
  }

  /** States the frontier, in the middle of a file. */
  async state(ts: number): Promise<void> {
    this.#log.appendClock(this.#clockFrame(ts));
    await this.#log.sync();
  }

  async seal(ts: number): Promise<void> {
    await this.#log.seal(this.#clockFrame(ts));
  }

  async ship(): Promise<void> {
    await this.archiver.finish();
    this.archivedTs = this.frontier;
  }
}
