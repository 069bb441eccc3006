/** Since when versions may have been missed, against a source of which everything is known: S7 with the log's own words. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { ContentDigest } from '../../engine/content-digest.ts';
import { initCapture } from '../../wal/capture/capture-dir.ts';
import { Journal } from '../../wal/capture/journal.ts';
import { isInexactAt, readLog, SHARDS } from './journal-support.ts';

const RECORDS = 4;
const START_MS = 1_700_000_000_000;
const RUNS = Number(process.env.PITR_MISSED_RUNS ?? 40);

type Step =
  | { readonly kind: 'write'; readonly record: number; readonly gap: number }
  | { readonly kind: 'delete'; readonly record: number; readonly gap: number }
  | {
      readonly kind: 'poll';
      readonly fails: boolean;
      /** False: it does not say since when versions may have been missed. */
      readonly isSure: boolean;
      readonly gap: number;
      /** Written after the clock was read. */
      readonly meanwhile: number[];
    };

const record = fc.nat(RECORDS - 1);
const gap = fc.constantFrom(0, 0, 1, 2, 5);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 10, arbitrary: fc.record({ kind: fc.constant('write' as const), record, gap }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('delete' as const), record, gap }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('poll' as const),
      fails: fc.constantFrom(false, false, false, true),
      isSure: fc.nat(19).map((n) => n > 0),
      gap,
      meanwhile: fc.array(record, { maxLength: 3 }),
    }),
  },
);

/** What happened to a record: `value` undefined, it was deleted. */
interface Happening {
  readonly ms: number;
  readonly value: number | undefined;
  readonly generation: number;
}

const digestOf = (i: number): Buffer => Buffer.alloc(20, i + 1);

/** No stored key, one bin "v". */
const imageOf = (value: number): Buffer => {
  const image = Buffer.from('000101760104', 'hex');
  return Buffer.concat([image, Buffer.from([0, 0, value >> 8, value & 255])]);
};

class Watched {
  now = START_MS;
  readonly truth: Happening[][] = Array.from({ length: RECORDS }, () => []);
  /** What was stated, and the newest LSN by then. */
  readonly frontiers: { readonly ts: number; readonly lsn: number }[] = [];
  /** Of a record, (from, to]: what came there no look at generations can tell. */
  readonly untold: { readonly record: number; readonly fromMs: number; readonly toMs: number }[] = [];
  readonly #journal: Journal;
  #cursorMs = START_MS;
  #value = 0;
  /** By record: generation when it was seen last, and whether it was deleted since then. */
  readonly #rows = new Map<number, number>();
  readonly #deleted = new Set<number>();

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  #happen(i: number, isDelete: boolean): void {
    const last = this.truth[i].at(-1);
    if (isDelete && last?.value === undefined) return;
    if (isDelete) this.#deleted.add(i);
    const generation = isDelete ? 0 : (last?.generation ?? 0) + 1;
    this.truth[i].push({ ms: this.now, value: isDelete ? undefined : ++this.#value, generation });
  }

  #look(i: number, isSure: boolean): void {
    const known = this.#rows.get(i) ?? 0;
    const now = this.truth[i].at(-1);
    const isThere = now?.value !== undefined;
    const missedAfterMs = isSure ? this.#cursorMs - 1 : undefined;
    const common = { namespace: 'test', set: 's', digest: digestOf(i), missedAfterMs };
    // it came and went, or came again as what would have followed without that
    const isUntold = known === 0 ? true : isThere && now.generation === known + 1;
    if (this.#deleted.delete(i) && isUntold)
      this.untold.push({ record: i, fromMs: this.#cursorMs - 1, toMs: this.now });
    if (isThere) {
      const { ms: lut, generation, value } = now;
      const image = imageOf(value as number);
      this.#journal.found({ ...common, generation, voidTimeS: 0, lut, foundMs: this.now, image });
      this.#rows.set(i, generation);
    } else {
      // it was seen once more before it went
      const seen = this.truth[i].at(-2)?.generation ?? 0;
      const missed = this.#rows.has(i) && seen > known ? seen - known : 0;
      this.#journal.gone({ ...common, missed, when: { startMs: this.#cursorMs - 1, endMs: this.now } });
      this.#rows.delete(i);
    }
  }

  async run(s: Step): Promise<void> {
    this.now += s.gap;
    if (s.kind !== 'poll') return this.#happen(s.record, s.kind === 'delete');
    const clockMs = this.now;
    for (const [n, i] of s.meanwhile.entries()) {
      this.#look((i + n) % RECORDS, s.isSure);
      this.#happen(i, false);
      this.now += n % 2;
    }
    for (let i = 0; i < (s.fails ? RECORDS / 2 : RECORDS); i++) this.#look(i, s.isSure);
    if (s.fails) return this.#journal.flush();
    this.#cursorMs = clockMs;
    if (await this.#journal.state(clockMs - 1))
      this.frontiers.push({ ts: clockMs - 1, lsn: this.#journal.lastLsn });
  }
}

test('S7, X1: what the log calls exact is what the source had, and what is found later makes nothing inexact that was stated', async (t) => {
  const root = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'pitr-missed-'));
  t.after(() => rm(root, { recursive: true }));
  let runs = 0;
  const counts = { exact: 0, inexact: 0, bounded: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
      const dir = join(root, `${runs++}`);
      const source = {
        kind: 'aerospike',
        url: 'aerospike://127.0.0.1:1',
        namespaces: ['test'],
        sets: null,
      } as const;
      await initCapture(dir, source, { archive: `file:${dir}-archive`, shards: SHARDS });
      const journal = await Journal.open(dir);
      await journal.loaded(new ContentDigest(SHARDS), START_MS - 1);
      const watched = new Watched(journal);
      try {
        for (const s of steps) await watched.run(s);
        await watched.run({ kind: 'poll', fails: false, isSure: true, gap: 3, meanwhile: [] });
      } finally {
        await journal.close();
      }
      const isSure = steps.every((s) => s.kind !== 'poll' || s.isSure);
      const versions = (await readLog(dir)).flatMap((e) => (e.kind === 'version' ? [e.version] : []));
      for (let i = 0; i < RECORDS; i++) {
        const own = versions
          .filter((v) => digestOf(i).equals(v.digest))
          .sort((a, b) => a.ts - b.ts || a.lsn - b.lsn);
        counts.bounded += own.filter((v) => (v.seen?.missedAfterMs ?? 0) > 0).length;
        for (let ts = START_MS; ts <= (watched.frontiers.at(-1)?.ts ?? 0); ts++) {
          const chosen = own.findLast((v) => v.ts <= ts);
          const said = isInexactAt(own, ts);
          const lsn = watched.frontiers.find((f) => f.ts >= ts)?.lsn ?? 0;
          const known = own.filter((v) => v.lsn <= lsn);
          if (isSure)
            assert.equal(said, isInexactAt(known, ts), `X1: record ${i} at ${ts - START_MS}, now and then`);
          counts[said ? 'inexact' : 'exact']++;
          if (said || watched.untold.some((u) => u.record === i && u.fromMs < ts && ts <= u.toMs)) continue;
          const value = watched.truth[i].findLast((h) => h.ms <= ts)?.value;
          const want = value === undefined ? undefined : imageOf(value).toString('hex');
          const have = chosen?.image && Buffer.from(chosen.image).toString('hex');
          assert.equal(have, want, `record ${i} at ${ts - START_MS}`);
        }
      }
    }),
    { numRuns: RUNS, ...(process.env.PITR_SEED ? { seed: Number(process.env.PITR_SEED) } : {}) },
  );
  t.diagnostic(JSON.stringify(counts));
  assert.ok(counts.bounded > 0 && counts.inexact > 0);
});
