import assert from 'node:assert/strict';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type { LogEntry } from '../../engine/commit-log.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import { initCapture } from '../../wal/capture/capture-dir.ts';
import { Journal } from '../../wal/capture/journal.ts';
import { check, readLog, SHARDS, stateAt } from './journal-support.ts';

const NAMESPACE = 'test';
const RUNS = Number(process.env.PITR_JOURNAL_RUNS ?? 40);

/** What happens to the source and to who looks at it. Numbers pick records, sets, times. */
type Step =
  | { readonly kind: 'write'; readonly record: number; readonly gap: number; readonly voids: boolean }
  | { readonly kind: 'delete'; readonly record: number; readonly gap: number }
  | { readonly kind: 'truncate'; readonly set: number | null; readonly back: number }
  /** A record comes back as it was some versions ago, as after a cold start. */
  | { readonly kind: 'resurrect'; readonly record: number }
  /** `ahead`: the source's clock is known to be at most so much later. */
  | { readonly kind: 'look'; readonly record: number; readonly exact: boolean; readonly ahead: number }
  /** It is written, seen, and deleted before it can be read. */
  | { readonly kind: 'vanish'; readonly record: number; readonly gap: number }
  /** The source's clock is set back. */
  | { readonly kind: 'back'; readonly by: number }
  | { readonly kind: 'poll' }
  | { readonly kind: 'flush' }
  | { readonly kind: 'reopen'; readonly lostIndex: boolean };

const RECORDS = 12;
const record = fc.nat(RECORDS - 1);
const gap = fc.nat(40);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant('write' as const), record, gap, voids: fc.boolean() }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('delete' as const), record, gap }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('truncate' as const),
      set: fc.option(fc.nat(2)),
      back: fc.nat(60),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('resurrect' as const), record }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('look' as const),
      record,
      exact: fc.boolean(),
      ahead: fc.constantFrom(0, 0, 70),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('vanish' as const), record, gap }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('back' as const), by: fc.nat(90) }) },
  { weight: 4, arbitrary: fc.constant({ kind: 'poll' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'flush' as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reopen' as const), lostIndex: fc.boolean() }) },
);

interface Live {
  readonly generation: number;
  readonly lut: number;
  readonly voidTimeS: number;
  readonly image: Buffer;
}

const digestOfRecord = (i: number): Buffer => {
  const digest = Buffer.alloc(20, i + 1);
  digest.writeUInt16LE((i * 397) & 0xfff, 0);
  return digest;
};
const setOfRecord = (i: number): string => ['', 'a', 'b'][i % 3];
/** No stored key, one bin "v": its image, byte by byte. */
const imageOf = (n: number): Buffer => {
  const image = Buffer.from('00010176010800000000000000ff', 'hex').subarray(0, 13);
  image.writeUInt32BE(n, 9);
  return image;
};

class World {
  now = 1_700_000_000_000;
  readonly live = new Map<number, Live>();
  readonly past = new Map<number, Live[]>();
  /** When each record was last looked at and found. */
  readonly lookedMs = new Map<number, number>();
  dir = '';
  journal!: Journal;
  /** All that was ever logged: files are trimmed. */
  written = 0;

  async start(): Promise<void> {
    this.dir = await mkdtemp(join(tmpdir(), 'pitr-journal-'));
    await initCapture(
      join(this.dir, 'capture'),
      { kind: 'aerospike', url: 'aerospike://127.0.0.1:1', namespaces: [NAMESPACE], sets: null },
      { archive: `file:${join(this.dir, 'archive')}`, shards: SHARDS },
    );
    await this.open();
    await this.journal.loaded(new ContentDigest(SHARDS), this.now);
  }

  async open(): Promise<void> {
    this.journal = await Journal.open(join(this.dir, 'capture'));
  }

  write(i: number, voids: boolean): void {
    const old = this.live.get(i);
    const next: Live = {
      generation: (old?.generation ?? 0) + 1,
      lut: Math.max(this.now, old?.lut ?? 0),
      voidTimeS: voids ? Math.floor(this.now / 1000) + 1000 : 0,
      image: imageOf(this.written++),
    };
    this.live.set(i, next);
    this.past.set(i, [...(this.past.get(i) ?? []), next]);
  }

  look(i: number, exact: boolean, ahead = 0): void {
    const now = this.live.get(i);
    const endMs = this.now + ahead;
    const common = { namespace: NAMESPACE, set: setOfRecord(i), digest: digestOfRecord(i) };
    const since = this.lookedMs.get(i) ?? 0;
    if (now) {
      const lut = exact ? now.lut : { startMs: Math.min(since, now.lut - 1), endMs };
      // content decides, and LUTs are learned
      this.journal.found({ ...common, ...now, lut, foundMs: endMs, boundedBeforeMs: 0 });
    } else this.journal.gone({ ...common, when: { startMs: Math.min(since, endMs), endMs } });
    this.lookedMs.set(i, this.now);
  }

  async run(s: Step): Promise<void> {
    switch (s.kind) {
      case 'write':
        this.now += s.gap;
        return this.write(s.record, s.voids);
      case 'delete':
        this.now += s.gap;
        this.live.delete(s.record);
        return;
      case 'truncate': {
        const set = s.set === null ? null : ['', 'a', 'b'][s.set];
        const cutoffLut = this.now - s.back;
        for (const [i, { lut }] of this.live)
          if (lut < cutoffLut && (set === null || set === setOfRecord(i))) this.live.delete(i);
        this.journal.truncated({ namespace: NAMESPACE, set, cutoffLut, when: this.now });
        return;
      }
      case 'resurrect': {
        const past = this.past.get(s.record);
        if (past && !this.live.has(s.record)) this.live.set(s.record, past[0]);
        return;
      }
      case 'look':
        return this.look(s.record, s.exact, s.ahead);
      case 'vanish': {
        this.now += s.gap;
        this.live.delete(s.record);
        const when = { startMs: this.now - 1, endMs: this.now };
        const record = { namespace: NAMESPACE, set: setOfRecord(s.record), digest: digestOfRecord(s.record) };
        this.journal.gone({ ...record, when, missed: 1, wasSeen: true });
        return;
      }
      case 'back':
        this.now -= s.by;
        return;
      case 'poll': {
        this.now += 7;
        const clock = this.now;
        // what comes while it scans has a ts above the frontier that is stated
        this.now += 3;
        for (let i = 0; i < RECORDS; i += 5) if (this.live.has(i)) this.write(i, false);
        for (let i = 0; i < RECORDS; i++) this.look(i, true);
        await this.journal.state(clock);
        return;
      }
      case 'flush':
        return this.journal.flush();
      case 'reopen':
        return this.reopen(s.lostIndex);
      default:
        s satisfies never;
    }
  }

  /** As a kill leaves it; `lostIndex`: after the log was synced and before the index was written. */
  async reopen(lostIndex: boolean): Promise<void> {
    const index = join(this.dir, 'capture', 'index');
    const kept = join(this.dir, 'index-before');
    if (lostIndex) {
      await cp(index, kept, { recursive: true });
      await this.journal.flush();
    }
    await this.journal.close();
    // what was not flushed is gone with the process, and looked at again
    if (lostIndex) {
      await rm(index, { recursive: true });
      await cp(kept, index, { recursive: true });
      await rm(kept, { recursive: true });
    }
    await this.open();
  }

  async end(): Promise<void> {
    await this.journal.close();
    await rm(this.dir, { recursive: true });
  }
}

test('C1–C5: what is logged of a source that is looked at, killed and looked at again is its state', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      const world = new World();
      await world.start();
      try {
        for (const s of steps) await world.run(s);
        await world.run({ kind: 'poll' });
        await world.run({ kind: 'poll' });
        await check(join(world.dir, 'capture'));
        const entries = await readLog(join(world.dir, 'capture'));
        const logged = stateAt(entries, Number.MAX_SAFE_INTEGER);
        const have = [...logged].map(([id, v]) => [id, Buffer.from(v.image as Uint8Array).toString('hex')]);
        const want = [...world.live].map(([i, v]) => [
          digestOfRecord(i).toString('hex'),
          v.image.toString('hex'),
        ]);
        assert.deepEqual(have.sort(), want.sort(), 'the newest state is the source');
        const { index } = world.journal;
        assert.equal(index.countAll(0), world.live.size, 'the index has a row for each record');
        const before = world.journal.lastLsn;
        for (let i = 0; i < RECORDS; i++) world.look(i, true);
        assert.equal(world.journal.lastLsn, before, 'C3: looking again logs nothing');
      } finally {
        await world.end();
      }
    }),
    { numRuns: RUNS, ...(process.env.PITR_SEED ? { seed: Number(process.env.PITR_SEED) } : {}) },
  );
});

const runAll = async (steps: readonly Step[]): Promise<LogEntry[]> => {
  const world = new World();
  await world.start();
  try {
    for (const s of steps) await world.run(s);
    await check(join(world.dir, 'capture'));
    return await readLog(join(world.dir, 'capture'));
  } finally {
    await world.end();
  }
};

test('C1: what the source says after its clock was set back is logged above the frontier', async () => {
  const entries = await runAll([
    { kind: 'write', record: 1, gap: 5, voids: false },
    { kind: 'write', record: 2, gap: 5, voids: false },
    { kind: 'poll' },
    { kind: 'back', by: 80 },
    { kind: 'delete', record: 1, gap: 0 },
    { kind: 'delete', record: 2, gap: 0 },
    { kind: 'write', record: 2, gap: 5, voids: false },
    { kind: 'look', record: 1, exact: true, ahead: 0 },
    { kind: 'look', record: 2, exact: true, ahead: 0 },
    { kind: 'poll' },
  ]);
  const late = entries.flatMap((e) => (e.kind === 'version' && e.version.seen?.late ? [e.version] : []));
  assert.equal(late.length, 2);
});

test('C1: a delete of what was seen and not read does not come before an earlier delete', async () => {
  const entries = await runAll([
    { kind: 'write', record: 1, gap: 5, voids: false },
    { kind: 'poll' },
    { kind: 'delete', record: 1, gap: 5 },
    { kind: 'look', record: 1, exact: true, ahead: 70 },
    { kind: 'vanish', record: 1, gap: 5 },
    { kind: 'poll' },
  ]);
  const deletes = entries.filter((e) => e.kind === 'version' && !e.version.image);
  assert.equal(deletes.length, 2);
});

test('C5: what the log has by a bound of its LUT, a truncation hides by the bound, whatever is seen of it later', async () => {
  const entries = await runAll([
    { kind: 'write', record: 1, gap: 5, voids: false },
    { kind: 'write', record: 2, gap: 5, voids: false },
    { kind: 'look', record: 1, exact: false, ahead: 0 },
    { kind: 'poll' },
    { kind: 'truncate', set: null, back: 14 },
    { kind: 'poll' },
  ]);
  assert.deepEqual(
    [...stateAt(entries, Number.MAX_SAFE_INTEGER).keys()],
    [digestOfRecord(2).toString('hex')],
  );
});

test('C2: what comes back after a truncation that was logged before a restart is not hidden by it', async () => {
  const entries = await runAll([
    { kind: 'write', record: 1, gap: 5, voids: false },
    { kind: 'poll' },
    { kind: 'delete', record: 1, gap: 5 },
    { kind: 'poll' },
    { kind: 'truncate', set: null, back: 0 },
    { kind: 'flush' },
    { kind: 'reopen', lostIndex: false },
    { kind: 'resurrect', record: 1 },
    { kind: 'poll' },
  ]);
  assert.deepEqual(
    [...stateAt(entries, Number.MAX_SAFE_INTEGER).keys()],
    [digestOfRecord(1).toString('hex')],
  );
});

test('C2: a version whose window is an instant has the same row after a kill', async () => {
  const world = new World();
  await world.start();
  const record = { namespace: NAMESPACE, set: '', digest: digestOfRecord(0) };
  world.journal.found({
    ...record,
    generation: 2,
    voidTimeS: 0,
    lut: { startMs: world.now + 10, endMs: world.now + 10 },
    foundMs: world.now + 10,
    image: imageOf(2),
  });
  const rowNow = () => Buffer.from(world.journal.row(NAMESPACE, record.digest)?.bytes ?? []).toString('hex');
  const before = rowNow();
  await world.journal.sync();
  await world.journal.close();
  await world.open();
  assert.equal(rowNow(), before);
  await world.end();
});
