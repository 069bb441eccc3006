import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isPitrError } from '../../engine/errors.ts';
import { LOG_DIR } from '../../wal/local-log.ts';
import { logFileName } from '../../wal/log-file.ts';
import { batch, clock, mark, NONE, openLog, textOf, version, versionsOf } from './log-support.ts';
import { errnoError, logPath, MemoryFiles, type Operation } from './memory-files.ts';

const DIR = `/engine/${LOG_DIR}`;

/** A log with one sealed file (LSN 1…4) and one open file of several syncs (LSN 5…16), and what was appended. */
const sample = async () => {
  const files = new MemoryFiles();
  const { log } = await openLog(files);
  const all: string[] = [];
  const put = (versions: ReturnType<typeof batch>): void => {
    log.append(versions);
    all.push(...versionsOf(versions));
  };
  put([version(1)]);
  put(batch(2, 3));
  await log.seal(clock(4));
  /** After each sync: bytes of the open file, entries so far. Frame ends are all counts at which an exact prefix may end. */
  const synced: { bytes: number; entries: number }[] = [{ bytes: 0, entries: 4 }];
  const frameEnds = new Set([4]);
  const step = async (...appends: (() => void)[]): Promise<void> => {
    for (const append of appends) {
      append();
      frameEnds.add(all.length);
    }
    await log.sync();
    synced.push({ bytes: files.contentOf(logPath(2, 'open')).length, entries: all.length });
  };
  await step(() => put([version(5)]));
  await step(
    () => put(batch(6, 4)),
    () => put([version(10)]),
  );
  await step(() => {
    log.appendEvent(mark(11));
    all.push(textOf({ kind: 'event', event: mark(11) }));
  });
  await step(
    () => put(batch(12, 2)),
    () => put(batch(14, 3)),
  );
  return { files, log, all, synced, frameEnds };
};

describe('local log: append, sync, seal, reopen', () => {
  test('what was synced is replayed in order, clock frames included, after a seal and without one', async () => {
    const { files, all } = await sample();
    const again = await openLog(files.afterKill());
    assert.deepEqual(again.entries, all);
    assert.deepEqual(
      { ...again.recovery, lastTs: 0 },
      { files: 2, versions: 15, events: 1, tornBytes: 0, lastLsn: 16, lastTs: 0, epoch: 1 },
    );
  });

  test('entries at or below the store’s LSN are not replayed again', async () => {
    const { files, all } = await sample();
    assert.deepEqual((await openLog(files.copy(), { afterLsn: 9 })).entries, all.slice(9));
    assert.deepEqual((await openLog(files.copy(), { afterLsn: 16 })).entries, NONE);
  });

  test('a reopened log goes on: LSNs, files and the chain continue', async () => {
    const { files, all } = await sample();
    const second = await openLog(files);
    assert.equal(second.log.lastLsn, 16);
    second.log.append([version(17)]);
    await second.log.seal(clock(17));
    await second.log.close();
    const third = await openLog(files);
    assert.deepEqual(third.entries, [...all, ...versionsOf([version(17)])]);
    third.log.append([version(18)]);
    await third.log.sync();
    assert.deepEqual(files.namesIn(DIR), ['000000000001.wal', '000000000002.wal', '000000000003.open']);
    assert.equal((await openLog(files.afterKill())).entries.length, 18);
  });

  test('an append while a sync or a seal is under way lands in the right file, and the file is readable', async () => {
    for (const during of ['createNew', 'append', 'sync', 'rename', 'syncDir'] satisfies Operation[]) {
      const files = new MemoryFiles();
      const { log } = await openLog(files);
      let lsn = 1;
      log.append([version(lsn)]);
      let appended = false;
      files.before = (operation) => {
        if (operation !== during || appended) return;
        appended = true;
        log.append([version(++lsn)]);
      };
      await log.seal(clock(lsn));
      files.before = () => undefined;
      log.append([version(++lsn)]);
      await log.sync();
      assert.equal(appended, true);
      const { entries } = await openLog(files.afterKill());
      assert.equal(entries.length, lsn, `append during ${during}`);
    }
  });

  test('trim removes what is durable elsewhere and keeps the newest sealed file', async () => {
    const files = new MemoryFiles();
    const { log } = await openLog(files);
    for (let lsn = 1; lsn <= 5; lsn++) {
      log.append([version(lsn)]);
      await log.seal(clock(lsn));
    }
    assert.equal(await log.trim(0), 0);
    assert.equal(await log.trim(2), 2);
    assert.deepEqual(
      files.namesIn(DIR),
      [3, 4, 5].map((n) => logFileName(n, true)),
    );
    assert.equal(await log.trim(1000), 2);
    assert.deepEqual(files.namesIn(DIR), [logFileName(5, true)]);
    const { recovery } = await openLog(files.copy(), { afterLsn: 4 });
    assert.equal(recovery.lastLsn, 5);
    assert.equal(recovery.lastTs, clock(5).ts, 'F2: the newest clock frame is still there');
  });
});

describe('local log: torn tails', () => {
  test('S2 S3: cut at every byte of the open file, an exact prefix is left, never half a batch', async () => {
    const { files, all, synced, frameEnds } = await sample();
    const path = logPath(2, 'open');
    const whole = files.bytesOf(path);
    for (let cut = 0; cut <= whole.length; cut++) {
      const torn = files.copy();
      torn.put(path, whole.subarray(0, cut));
      const { log, entries } = await openLog(torn);
      assert.deepEqual(entries, all.slice(0, entries.length), `cut at ${cut}`);
      assert.ok(frameEnds.has(entries.length), `cut at ${cut} leaves ${entries.length}: half a frame`);
      const durable = Math.max(...synced.filter((s) => s.bytes <= cut).map((s) => s.entries));
      assert.ok(entries.length >= durable, `cut at ${cut} lost ${durable - entries.length} that were synced`);
      const next = entries.length + 1;
      log.append([version(next)]);
      await log.seal(clock(next));
      const again = await openLog(torn);
      assert.deepEqual(again.entries, [...entries, ...versionsOf([version(next)])], `going on after ${cut}`);
    }
  });

  test('zeros after the last frame, written ahead or left by an interrupted write, are cut off and are nothing torn', async () => {
    const { files, all } = await sample();
    const path = logPath(2, 'open');
    const content = files.contentOf(path);
    assert.ok(files.bytesOf(path).length > content.length, 'the file layer writes zeros ahead');
    for (const zeros of [0, 1, 23, 24, 25, 512, 4096]) {
      const left = files.copy();
      left.put(path, Buffer.concat([content, Buffer.alloc(zeros)]));
      const { entries, recovery } = await openLog(left);
      assert.deepEqual(entries, all);
      assert.equal(recovery.tornBytes, 0);
      assert.deepEqual(left.bytesOf(path), content);
    }
  });

  test('an append that was torn among the zeros before it: the good frames stay, the rest is counted and cut off', async () => {
    const { files, all } = await sample();
    const path = logPath(2, 'open');
    const content = files.contentOf(path);
    for (const torn of [1, 24, 40]) {
      const left = files.copy();
      const garbage = Buffer.alloc(torn, 0xee);
      left.put(path, Buffer.concat([content, garbage, Buffer.alloc(300)]));
      const { entries, recovery } = await openLog(left);
      assert.deepEqual(entries, all);
      assert.equal(recovery.tornBytes, torn);
      assert.deepEqual(left.bytesOf(path), content);
    }
  });

  test('L3: a seal whose file was not cut yet is a sealed file; anything but zeros after the seal is corruption', async () => {
    const files = new MemoryFiles();
    const { log } = await openLog(files);
    log.append([version(1)]);
    files.before = (operation) => {
      if (operation === 'truncate') throw errnoError('EIO');
    };
    await assert.rejects(log.seal(clock(1)));
    files.before = () => undefined;
    const path = logPath(1, 'open');
    const [content, whole] = [files.contentOf(path), files.bytesOf(path)];
    assert.ok(whole.length > content.length);
    const again = files.afterKill();
    assert.deepEqual((await openLog(again)).entries, versionsOf([version(1)]));
    assert.deepEqual(again.namesIn(DIR), [logFileName(1, true)]);
    assert.deepEqual(again.bytesOf(logPath(1, 'wal')), content);
    const odd = files.afterKill();
    odd.put(path, Buffer.concat([content, Buffer.of(0, 1), Buffer.alloc(30)]));
    await assert.rejects(openLog(odd), (e) => isPitrError(e, 'log-corrupt'));
    const sealed = again.afterKill();
    sealed.put(logPath(1, 'wal'), whole);
    await assert.rejects(openLog(sealed), (e) => isPitrError(e, 'log-corrupt'), 'zeros in a sealed file');
  });

  test('frames appended during a seal do not claim that their new file was synced: its torn start is a torn tail', async () => {
    const files = new MemoryFiles();
    const { log } = await openLog(files);
    log.append([version(1)]);
    await log.sync();
    files.before = (operation) => {
      if (operation !== 'sync') return;
      files.before = () => undefined;
      log.append([version(2)]);
      log.append([version(3)]);
    };
    await log.seal(clock(1));
    await log.sync();
    const path = logPath(2, 'open');
    const bytes = Buffer.from(files.bytesOf(path));
    const start = 20 + bytes.readUInt32LE(12);
    bytes.fill(0, start, start + 30);
    files.put(path, bytes);
    assert.deepEqual((await openLog(files)).entries, versionsOf([version(1)]));
  });

  test('a write of several frames of which a later sector came first is a torn tail, not corruption', async () => {
    const { files, synced } = await sample();
    const path = logPath(2, 'open');
    const before = synced[synced.length - 2];
    const bytes = Buffer.from(files.bytesOf(path));
    bytes.fill(0, before.bytes, before.bytes + 40);
    const torn = files.copy();
    torn.put(path, bytes);
    assert.equal((await openLog(torn)).entries.length, before.entries);
  });
});

describe('local log: crashes', () => {
  /** Appends, syncs and seals; tells what was acknowledged. Stops at the first error. */
  const work = async (files: MemoryFiles, acknowledged: string[]): Promise<void> => {
    try {
      const { log, entries } = await openLog(files);
      let lsn = entries.length;
      for (let round = 0; round < 4; round++) {
        const versions = [...batch(lsn + 1, 3), version(lsn + 4)];
        log.append(versions.slice(0, 3));
        log.append(versions.slice(3));
        lsn += 4;
        if (round % 2 === 0) await log.sync();
        else await log.seal(clock(lsn));
        acknowledged.push(...versionsOf(versions));
        if (round === 3) await log.trim(4);
      }
      await log.close();
    } catch (error) {
      assert.ok(error instanceof Error);
    }
  };
  const stopAfter = (files: MemoryFiles, operations: number): void => {
    files.before = () => {
      if (files.operations >= operations) throw errnoError('EIO');
    };
  };

  test('S2 S3: a power cut or a SIGKILL before any operation loses nothing acknowledged and halves no batch', async () => {
    const complete = new MemoryFiles();
    const everything: string[] = [];
    await work(complete, everything);
    assert.equal(everything.length, 16);
    assert.ok(complete.operations > 20);
    for (let stop = 0; stop < complete.operations; stop++) {
      for (const keep of [() => 0, (n: number) => n >> 1, (n: number) => n, undefined]) {
        const files = new MemoryFiles();
        const acknowledged: string[] = [];
        stopAfter(files, stop);
        await work(files, acknowledged);
        const after = keep ? files.afterPowerCut(keep) : files.afterKill();
        await checkRecovered(after, acknowledged, `stopped after ${stop}`);
      }
    }
  });

  test('S2: a power cut at any moment of the recovery from a SIGKILL, too', async () => {
    const complete = new MemoryFiles();
    await work(complete, []);
    for (let stop = 0; stop < complete.operations; stop++) {
      const files = new MemoryFiles();
      const acknowledged: string[] = [];
      stopAfter(files, stop);
      await work(files, acknowledged);
      for (let second = 0; second < 20; second++) {
        const restarted = files.afterKill();
        stopAfter(restarted, second);
        const recovered: string[] = [];
        await work(restarted, recovered);
        const after = restarted.afterPowerCut(() => 0);
        await checkRecovered(after, acknowledged, `stopped after ${stop}, then after ${second}`);
      }
    }
  });

  /** The log may have been trimmed up to LSN 4: the store has those. */
  const checkRecovered = async (
    files: MemoryFiles,
    acknowledged: readonly string[],
    when: string,
  ): Promise<void> => {
    const trimmed = acknowledged.length > 4 && !files.namesIn(DIR).includes(logFileName(1, true));
    const skipped = trimmed ? 4 : 0;
    const { entries, recovery } = await openLog(files, { afterLsn: skipped }).catch((error) => {
      throw new Error(`${when}: ${error.message}`, { cause: error });
    });
    assert.deepEqual(
      entries.slice(0, Math.max(0, acknowledged.length - skipped)),
      acknowledged.slice(skipped),
      when,
    );
    for (let i = 0; i < entries.length; i++)
      assert.equal(JSON.parse(entries[i]).version.lsn, skipped + i + 1, when);
    if (entries.length > 0) assert.ok(!entries[entries.length - 1].includes('"batchMore":true'), when);
    assert.equal(recovery.lastLsn, skipped + entries.length);
  };

  for (const [operation, code] of [
    ['append', 'ENOSPC'],
    ['append', 'EIO'],
    ['sync', 'EIO'],
    ['createNew', 'ENOSPC'],
    ['syncDir', 'EIO'],
    ['rename', 'EIO'],
  ] as const) {
    test(`S2: ${code} on ${operation} is log-full, ends the log, and loses nothing acknowledged`, async () => {
      const files = new MemoryFiles();
      const { log } = await openLog(files);
      log.append([version(1), version(2)]);
      await log.seal(clock(2));
      if (operation !== 'createNew') {
        log.append([version(3)]);
        await log.sync();
      }
      const durable = log.lastLsn;
      files.before = (op) => {
        if (op === operation) throw errnoError(code);
      };
      log.append([version(durable + 1)]);
      const isFull = (error: unknown): boolean => isPitrError(error, 'log-full') && error.facts.why === code;
      if (operation === 'rename' || operation === 'syncDir')
        await assert.rejects(log.seal(clock(durable + 1)), isFull);
      else await assert.rejects(log.sync(), isFull);
      files.before = () => undefined;
      assert.throws(() => log.append([version(durable + 2)]), isFull);
      assert.throws(() => log.appendEvent(mark(durable + 2)), isFull);
      await assert.rejects(log.sync(), isFull);
      await assert.rejects(log.seal(clock(durable)), isFull);
      await log.close();
      const { entries } = await openLog(files.afterPowerCut(() => 0));
      assert.deepEqual(
        entries.slice(0, durable),
        versionsOf(Array.from({ length: durable }, (_, i) => version(i + 1))),
      );
      assert.ok(entries.length <= durable + 1);
    });
  }
});
