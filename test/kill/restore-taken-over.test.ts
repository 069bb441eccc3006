/**
 * R6: an interrupted restore is gone on with. `PITR_KILL_SEED` repeats the choices of a run (not the scheduler's).
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { access, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ManualClock } from '../../engine/clock.ts';
import type { BatchOp, BinsInput } from '../../engine/engine-types.ts';
import { isPitrError } from '../../engine/errors.ts';
import { PartitionSet } from '../../engine/partition.ts';
import {
  planRestore,
  type RestoreOptions,
  type RestoreReport,
  restoreEngine,
} from '../../restore/restore.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { Child } from './child.ts';

const RECORDS = 8_000;
const KILLS = 8;
const SEED = Number(process.env.PITR_KILL_SEED ?? Date.now() % 2 ** 31);
/** Seconds that a record with void time lives. */
const TTL = 100_000;

const keyOf = (n: number) => ({ namespace: n % 5 === 0 ? 'other' : 'test', set: `s${n % 3}`, key: n });
const textOf = (n: number, round: number): string => `${round} ${String(n).repeat(20 + (n % 60))}`;
/** A few are too large for a page. */
const binsOf = (n: number, round: number): BinsInput =>
  n % 500 === 7 ? { n, text: textOf(n, round), blob: Buffer.alloc(9000, n) } : { n, text: textOf(n, round) };

describe('R6: a restore that was interrupted', { timeout: 280_000 }, () => {
  let root = '';
  let archive = '';
  let target = '';
  /** The judge: record number → text at the target. */
  const model = new Map<number, string>();
  let made = 0;
  const newDir = (): string => join(root, `r${made++}`);

  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'pitr-taken-over-'));
    archive = `file:${join(root, 'archive')}`;
    await Engine.init(join(root, 'e'), { archive });
    const engine = await Engine.open({ dir: join(root, 'e'), sealMs: 0 });
    const agent = await Archiver.open(join(root, 'e'));
    const write = async (numbers: readonly number[], round: number): Promise<void> => {
      for (let at = 0; at < numbers.length; at += 1000)
        await engine.batch(
          numbers.slice(at, at + 1000).map((n): BatchOp => {
            if (round > 0 && n % 7 === 0) return { op: 'delete', key: keyOf(n) };
            return {
              op: 'put',
              key: keyOf(n),
              bins: binsOf(n, round),
              ...(n % 11 === 0 ? { ttl: TTL } : {}),
            };
          }),
        );
      await engine.seal();
      await agent.archivePending();
    };
    const all = Array.from({ length: RECORDS }, (_, n) => n);
    await write(all, 0);
    const changed = all.filter((n) => n % 4 === 0);
    await write(changed, 1);
    for (const n of all) model.set(n, textOf(n, 0));
    for (const n of changed)
      if (n % 7 === 0) model.delete(n);
      else model.set(n, textOf(n, 1));
    await engine.mark('then');
    await write([1, 2, 3], 2);
    await engine.close();
    await agent.archivePending();
    await agent.close();
    target = 'mark:then';
  });
  after(async () => {
    await Child.killAll();
    await rm(root, { recursive: true, force: true });
  });

  const restore = (dir: string, options: Partial<RestoreOptions> = {}): Promise<RestoreReport> =>
    restoreEngine(dir, undefined, { archive, target, ...options });

  /** Lets a restore come as far as `ranges` and fail there. */
  const interrupted = async (ranges: number, options: Partial<RestoreOptions> = {}): Promise<string> => {
    const dir = newDir();
    const stop = new Error('enough');
    await assert.rejects(
      restore(dir, {
        ...options,
        onProgress: ({ doneRanges }) => {
          if (doneRanges >= ranges) throw stop;
        },
      }),
      (e) => e === stop,
    );
    return dir;
  };

  const check = async (dir: string): Promise<void> => {
    await assert.rejects(access(join(dir, 'restoring.json')));
    await assert.rejects(access(join(dir, 'restoring.progress')));
    const engine = await Engine.open({ dir, sealMs: 0 });
    const found = new Map<number, string>();
    for await (const { bins } of engine.scan()) found.set(Number(bins.n), String(bins.text));
    assert.equal(found.size, model.size);
    for (const [n, text] of model) assert.equal(found.get(n), text, `record ${n}`);
    assert.equal((await engine.get(keyOf(507)))?.bins.n, 507);
    assert.equal(await engine.get(keyOf(28)), undefined);
    await engine.close();
    await rm(dir, { recursive: true });
  };

  const edit = (dir: string, name: string, change: (body: Record<string, unknown>) => void): void => {
    const body = JSON.parse(readFileSync(join(dir, name), 'utf8'));
    change(body);
    writeFileSync(join(dir, name), JSON.stringify(body));
  };

  test('by SIGKILL at random moments has the same result in the end', async (t) => {
    const undisturbed = await restore(newDir());
    assert.equal(undisturbed.resumed, undefined);
    let state = (SEED % 2147483646) + 1;
    const random = (below: number): number => {
      state = (state * 48271) % 2147483647;
      return state % below;
    };
    const dir = newDir();
    const args = [archive, dir, target, '2'];
    let killed = 0;
    let ranges = 0;
    while (killed < KILLS) {
      const child = new Child('restorer.ts', args);
      const at = ranges + random(2);
      // after it has begun, after a range more than before, or at any time
      if (killed % 2 === 0)
        await child.line((l) => Number(/^range (\d+)/.exec(l)?.[1]) > at).catch(() => undefined);
      else await child.line((l) => l === 'go').catch(() => undefined);
      // as long as a restore here takes, not as long as one once took: what has ended cannot be killed
      await sleep(random(killed % 2 === 0 ? 5 : Math.ceil(undisturbed.durationMs / 2)));
      if (!(await child.kill())) break;
      killed++;
      ranges = rangesIn(dir);
    }
    assert.ok(killed > 2, `PITR_KILL_SEED=${SEED}: only ${killed} kills`);
    const last = new Child('restorer.ts', args);
    const lines = await last.success().catch((error: Error) => {
      if (error.message.includes('target-not-empty')) return undefined;
      throw error;
    });
    if (lines) {
      const report = JSON.parse(lines.at(-1) as string);
      assert.equal(report.digest, undisturbed.digest, `PITR_KILL_SEED=${SEED}`);
      assert.deepEqual(report.verification, undisturbed.verification);
      assert.equal(report.records, model.size);
      assert.ok(ranges === 0 || report.resumed.ranges >= ranges, 'what was done is taken over');
    }
    t.diagnostic(`${killed} kills, ${ranges} ranges were there at the end, seed ${SEED}`);
    await check(dir);
  });

  const rangesIn = (dir: string): number => {
    try {
      return JSON.parse(readFileSync(join(dir, 'restoring.progress'), 'utf8')).ranges;
    } catch {
      return 0;
    }
  };

  test('does not read again what it has: that may be damaged meanwhile', async () => {
    const dir = await interrupted(4);
    const done = PartitionSet.parse(
      JSON.parse(readFileSync(join(dir, 'restoring.progress'), 'utf8')).partitions,
    );
    const spoiled = await spoil(done);
    try {
      await assert.rejects(restore(newDir()), (e) => isPitrError(e, 'object-corrupt'), 'from the beginning');
      const report = await restore(dir);
      assert.ok((report.resumed?.ranges ?? 0) >= 4);
      assert.deepEqual([report.verification.source, report.verification.target], ['equal', 'equal']);
      assert.equal(report.records, model.size);
    } finally {
      await spoiled.mend();
    }
    await check(dir);
  });

  /** Flips a byte in a block that holds rows of `partitions` only. */
  const spoil = async (partitions: PartitionSet): Promise<{ mend: () => Promise<void> }> => {
    const open_ = await Archive.open(archive);
    const { plan } = await planRestore({ archive: open_, target });
    for (const ref of plan.state.runs.flatMap((r) => r.segments)) {
      const reader = await open_.reader(ref);
      const blocks = await reader.blocks();
      for (const [i, { offset, namespace, partition }] of blocks.entries()) {
        const next = blocks[i + 1];
        if (next?.namespace !== namespace) continue;
        const held = PartitionSet.of([{ start: partition, end: next.partition + 1 }]);
        if (held.subtract(partitions).size > 0) continue;
        const path = join(root, 'archive', ref.name);
        const flip = async (): Promise<void> => {
          const file = await open(path, 'r+');
          const byte = Buffer.alloc(1);
          await file.read(byte, 0, 1, offset + 100);
          byte[0] ^= 1;
          await file.write(byte, 0, 1, offset + 100);
          await file.close();
        };
        await flip();
        return { mend: flip };
      }
    }
    throw new Error(`no block lies in partitions ${partitions}`);
  };

  test('goes on although its objects were merged into others', async () => {
    const dir = await interrupted(3);
    const agent = await Archiver.open(join(root, 'e'), { fanout: 2, retireMs: 0 });
    assert.ok((await agent.compact()) > 0, 'there was something to merge');
    await agent.close();
    const report = await restore(dir);
    assert.ok((report.resumed?.ranges ?? 0) >= 3);
    assert.deepEqual([report.verification.source, report.verification.target], ['equal', 'equal']);
    await check(dir);
  });

  test('is refused to another one, and can still be ended', async () => {
    const dir = await interrupted(2);
    const ts = JSON.parse(readFileSync(join(dir, 'restoring.json'), 'utf8')).wanted.ts;
    const refuse = (options: Partial<RestoreOptions>) =>
      assert.rejects(restore(dir, options), (e) => {
        assert.ok(isPitrError(e, 'target-begun'), String(e));
        assert.ok(e.message.includes(new Date(ts).toISOString()), e.message);
        return true;
      });
    await refuse({ target: String(ts - 1) });
    await refuse({ target: 'latest' });
    await refuse({ ttl: 'never' });
    await refuse({ selection: { sets: ['s1'] } });
    await refuse({ selection: { partitions: '0-100' } });
    const report = await restore(dir, { target: String(ts) });
    assert.ok((report.resumed?.ranges ?? 0) >= 2);
    await check(dir);
  });

  test('starts over when the system has been restarted since', async () => {
    const dir = await interrupted(3);
    edit(dir, 'restoring.json', (begun) => {
      begun.boot = '00000000-0000-0000-0000-000000000000';
    });
    const report = await restore(dir);
    assert.equal(report.resumed, undefined);
    assert.equal(report.records, model.size);
    await check(dir);
  });

  test('starts over when the store is not the one that its progress is of', async () => {
    const dir = await interrupted(3);
    await rm(join(dir, 'store'), { recursive: true });
    const report = await restore(dir);
    assert.equal(report.resumed, undefined);
    assert.deepEqual([report.verification.source, report.verification.target], ['equal', 'equal']);
    await check(dir);
  });

  test('counts what is left to live from when it began', async () => {
    const { plan } = await planRestore({ archive, target });
    const beganMs = plan.target.ts + 1_000_000_000;
    const dir = await interrupted(3, { clock: new ManualClock(beganMs) });
    await restore(dir, { clock: new ManualClock(beganMs + 3_600_000) });
    const engine = await Engine.open({ dir, sealMs: 0, clock: new ManualClock(beganMs + 3_600_000) });
    const leftOf = new Set<number>();
    for await (const { bins, voidTime } of engine.scan())
      if (Number(bins.n) % 11 === 0) leftOf.add(Math.round((voidTime - beganMs / 1000) / 1000));
    await engine.close();
    assert.deepEqual([...leftOf], [Math.round(TTL / 1000)]);
  });
});
