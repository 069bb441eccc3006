import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Rng } from '../model/rng.ts';
import { clock, mark, openLog, textOf, version } from '../wal/log-support.ts';
import { MemoryFiles } from '../wal/memory-files.ts';
import { statesAfter } from './power-cut.ts';
import { type Moment, powerRng, record, STATES_MAX } from './power-support.ts';

interface Owed {
  /** Entries that were acknowledged: synced. */
  readonly entries: number;
  /** Entries up to here are durable in the store, and may be trimmed. */
  readonly stored: number;
}

/** A writer and everything that it ever handed to the log. */
class Writer {
  readonly all: string[] = [];
  /** Numbers of entries at which a prefix may end: frames. */
  readonly frameEnds = new Set([0]);
  owed: Owed = { entries: 0, stored: 0 };

  async run(files: MemoryFiles, rng: Rng, rounds: number): Promise<void> {
    const { log, entries } = await openLog(files, { afterLsn: this.owed.stored });
    this.all.length = this.owed.stored;
    this.all.push(...entries);
    this.frameEnds.add(this.all.length);
    // what was found may be built upon from here on
    this.owed = { ...this.owed, entries: this.all.length };
    for (let round = 0; round < rounds; round++) {
      for (let frame = rng.int(1, 3); frame > 0; frame--) this.#append(log, rng);
      const last = this.all.length;
      if (round % 4 === 3) await log.seal(clock(last));
      else await log.sync();
      this.owed = { ...this.owed, entries: last };
      if (round % 9 === 8) {
        // the store has been flushed; several files go at once
        this.owed = { ...this.owed, stored: last };
        await log.trim(last);
      }
    }
    await log.close();
  }

  #append(log: Awaited<ReturnType<typeof openLog>>['log'], rng: Rng): void {
    const first = this.all.length + 1;
    if (rng.chance(0.15)) {
      log.appendEvent(mark(first));
      this.all.push(textOf({ kind: 'event', event: mark(first) }));
    } else {
      const count = rng.pick([1, 1, 3, 6]);
      const versions = Array.from({ length: count }, (_, i) =>
        version(first + i, {
          ts: 1_700_000_000_000 + first,
          // up to several sectors
          image: Buffer.alloc(rng.pick([0, 10, 300, 700, 3000]), first + i),
          batchMore: i + 1 < count,
        }),
      );
      log.append(versions);
      this.all.push(...versions.map((v) => textOf({ kind: 'version', version: v })));
    }
    this.frameEnds.add(this.all.length);
  }

  /** Recovers, compares, goes on, and recovers again. */
  async check(files: MemoryFiles, { entries: acknowledged, stored }: Owed): Promise<void> {
    const { log, entries, recovery } = await openLog(files, { afterLsn: stored });
    const found = stored + entries.length;
    // not deepEqual, which takes minutes to show how long texts differ
    const wrong = entries.findIndex((entry, i) => entry !== this.all[stored + i]);
    assert.equal(wrong, -1, `entry ${stored + wrong + 1} is not what was written`);
    assert.ok(found >= acknowledged, `${acknowledged - found} of ${acknowledged} acknowledged entries lost`);
    assert.ok(this.frameEnds.has(found), `half a batch: ${found}`);
    assert.equal(recovery.lastLsn, found);
    log.append([version(found + 1)]);
    await log.sync();
    log.append([version(found + 2)]);
    await log.seal(clock(found + 2));
    await log.close();
    const again = await openLog(files.afterKill(), { afterLsn: stored });
    assert.equal(stored + again.entries.length, found + 2, 'it goes on');
  }
}

const checkStates = async (
  writer: Writer,
  moment: Moment<Owed>,
  limit: number,
  rng: Rng,
): Promise<number> => {
  let states = 0;
  for (const content of statesAfter(moment.cut, limit, rng)) {
    states++;
    await writer.check(new MemoryFiles(content, moment.cut.dirs), moment.owed).catch((cause) => {
      const names = [...content].map(([path, { length }]) => `${path} ${length}`).join(', ');
      throw new Error(`${moment.when}, state ${states} (${names}): ${cause.message}`, { cause });
    });
  }
  return states;
};

test('S2 S3 L3: the log recovers from every power cut of a run: nothing acknowledged lost, no half batch, it goes on', async () => {
  const rng = powerRng('log');
  const writer = new Writer();
  const files = new MemoryFiles();
  const moments = await record(
    files,
    () => writer.owed,
    () => writer.run(files, rng, 40),
  );
  let states = 0;
  for (const moment of moments) states += await checkStates(writer, moment, STATES_MAX, rng);
  console.log(`log: ${moments.length} moments, ${states} states`);
  assert.ok(moments.length > 100 && states > 5 * moments.length);
});

test('S2 S3: a power cut while the log recovers from a SIGKILL or from another power cut, and goes on', async () => {
  const rng = powerRng('log twice');
  let states = 0;
  for (let run = 0; run < 10; run++) {
    const first = new Writer();
    const files = new MemoryFiles();
    const moments = await record(
      files,
      () => first.owed,
      () => first.run(files, rng, 12),
    );
    const moment = rng.pick(moments);
    const found = [...statesAfter(moment.cut, 4, rng)].map((c) => new MemoryFiles(c, moment.cut.dirs));
    for (const again of [moment.killed(), moment.killed(), ...found]) {
      const second = new Writer();
      second.owed = { entries: moment.owed.stored, stored: moment.owed.stored };
      const later = await record(
        again,
        () => second.owed,
        () => second.run(again, rng, 3),
      );
      for (const { owed, ...rest } of later) {
        // until it has opened the log, the first writer's promise stands
        const both = { entries: Math.max(owed.entries, moment.owed.entries), stored: owed.stored };
        second.frameEnds.add(moment.owed.entries);
        for (const end of first.frameEnds) second.frameEnds.add(end);
        states += await checkStates(second, { ...rest, owed: both }, Math.min(8, STATES_MAX), rng);
      }
    }
  }
  console.log(`log twice: ${states} states`);
  assert.ok(states > 500);
});

test('S2 L4: a new file whose header is torn at any byte, zeros after it, is one that never was', async () => {
  const files = new MemoryFiles();
  const { log } = await openLog(files);
  log.append([version(1)]);
  await log.sync();
  await log.close();
  const [[path, whole]] = [...statesAfter(files.cut(), 1, powerRng('header'))][0];
  for (let torn = 0; torn < 20 + whole.readUInt32LE(12); torn++) {
    const bytes = Buffer.alloc(whole.length);
    whole.copy(bytes, 0, 0, torn);
    const { entries } = await openLog(new MemoryFiles(new Map([[path, bytes]]))).catch((cause) => {
      throw new Error(`torn at ${torn}: ${cause.message}`, { cause });
    });
    assert.deepEqual(entries, []);
  }
});
