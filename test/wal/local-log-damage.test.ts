import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isPitrError, PitrError } from '../../engine/errors.ts';
import { LOG_DIR } from '../../wal/local-log.ts';
import { scanLogFile } from '../../wal/log-file.ts';
import { FRAME_HEADER_BYTES, frameAt, frameSeed, LOG_VERSION } from '../../wal/log-format.ts';
import { batch, clock, ENGINE, openLog, version } from './log-support.ts';
import { logPath, MemoryFiles } from './memory-files.ts';

const DIR = `/engine/${LOG_DIR}`;
const REFUSED = new Set(['log-corrupt', 'object-corrupt', 'format-version']);

const refusal = async (promise: Promise<unknown>, what: string): Promise<PitrError> => {
  try {
    await promise;
  } catch (error) {
    if (error instanceof PitrError) return error;
    throw new Error(`${what}: ${error}`, { cause: error });
  }
  throw new Error(`${what} was accepted`);
};

const flipped = (bytes: Buffer, bit: number): Buffer => {
  const copy = Buffer.from(bytes);
  copy[bit >> 3] ^= 1 << (bit & 7);
  return copy;
};

/** `count` sealed files of a few versions each. */
const sealedFiles = async (count: number, engineId?: string): Promise<MemoryFiles> => {
  const files = new MemoryFiles();
  const { log } = await openLog(files, engineId === undefined ? {} : { engineId });
  for (let i = 0; i < count; i++) {
    log.append(batch(log.lastLsn + 1, 3));
    await log.seal(clock(log.lastLsn));
  }
  await log.close();
  return files;
};

/** Offsets of the frames of a file, with its end. */
const framesOf = (bytes: Buffer): number[] => {
  let at = 20 + bytes.readUInt32LE(12);
  const offsets: number[] = [];
  for (;;) {
    offsets.push(at);
    const frame = frameAt(bytes, at, undefined, frameSeed(ENGINE));
    if ('why' in frame) return offsets;
    at += frame.bytes;
  }
};

describe('local log: damage is refused, and the evidence kept', () => {
  test('every single flipped bit of a sealed file', async () => {
    const files = await sealedFiles(2);
    for (const sequence of [1, 2]) {
      const path = logPath(sequence, 'wal');
      const whole = files.bytesOf(path);
      for (let bit = 0; bit < whole.length * 8; bit++) {
        const damaged = files.copy();
        const bytes = flipped(whole, bit);
        damaged.put(path, bytes);
        const error = await refusal(openLog(damaged), `bit ${bit} of ${path}`);
        assert.ok(REFUSED.has(error.id), `bit ${bit}: ${error.id}`);
        if (error.id === 'log-corrupt') {
          assert.deepEqual(damaged.bytesOf(`${path}.broken`), bytes, `bit ${bit}: no evidence`);
          assert.equal(error.facts.path, path);
          assert.equal(typeof error.facts.offset, 'number');
        }
        assert.deepEqual(damaged.bytesOf(path), bytes, 'a file that is refused is left as it is');
      }
    }
  });

  test('every cut of a sealed file, and zeros or its own frames after it', async () => {
    const files = await sealedFiles(2);
    const path = logPath(2, 'wal');
    const whole = files.bytesOf(path);
    const variants = [
      ...Array.from({ length: whole.length }, (_, cut) => whole.subarray(0, cut)),
      Buffer.concat([whole, Buffer.alloc(1)]),
      Buffer.concat([whole, Buffer.alloc(4096)]),
      Buffer.concat([whole, whole.subarray(framesOf(whole)[0])]),
    ];
    for (const [i, bytes] of variants.entries()) {
      const damaged = files.copy();
      damaged.put(path, bytes);
      assert.equal((await refusal(openLog(damaged), `variant ${i}`)).id, 'log-corrupt');
    }
  });

  test('every flipped bit of an open file with synced frames after it is refused, not cut off', async () => {
    const files = new MemoryFiles();
    const { log } = await openLog(files);
    log.append(batch(1, 3));
    await log.sync();
    const path = logPath(1, 'open');
    const acknowledged = files.contentOf(path).length;
    log.append([version(4)]);
    await log.sync();
    const whole = files.bytesOf(path);
    for (let bit = 0; bit < acknowledged * 8; bit++) {
      const damaged = files.copy();
      damaged.put(path, flipped(whole, bit));
      const error = await refusal(openLog(damaged), `bit ${bit}`);
      assert.ok(REFUSED.has(error.id), `bit ${bit}: ${error.id}`);
      assert.deepEqual(damaged.bytesOf(path), flipped(whole, bit));
    }
  });

  test('S2: a damaged header does not make an open file with acknowledged frames look like one that never was', async () => {
    const files = new MemoryFiles();
    const { log } = await openLog(files);
    log.append(batch(1, 3));
    await log.sync();
    const path = logPath(1, 'open');
    const whole = files.bytesOf(path);
    for (let bit = 0; bit < framesOf(whole)[0] * 8; bit++) {
      const damaged = files.copy();
      damaged.put(path, flipped(whole, bit));
      assert.ok(REFUSED.has((await refusal(openLog(damaged), `bit ${bit}`)).id));
      assert.deepEqual(damaged.bytesOf(path), flipped(whole, bit));
    }
  });

  test('a frame of another past with the LSN that is due: only the rolling checksum can tell', async () => {
    const past = async (generation: number): Promise<MemoryFiles> => {
      const files = new MemoryFiles();
      const { log } = await openLog(files);
      log.append([version(1, { generation })]);
      log.append([version(2)]);
      log.append([version(3)]);
      await log.seal(clock(3));
      return files;
    };
    const [files, other] = [await past(1), await past(2)];
    const [mine, theirs] = [files.bytesOf(logPath(1, 'wal')), other.bytesOf(logPath(1, 'wal'))];
    const at = framesOf(mine);
    files.put(
      logPath(1, 'wal'),
      Buffer.concat([mine.subarray(0, at[1]), theirs.subarray(at[1], at[2]), mine.subarray(at[2])]),
    );
    const error = await refusal(openLog(files), 'a frame of another past');
    assert.deepEqual(
      [error.id, error.facts.why, error.facts.offset],
      ['log-corrupt', 'frame does not follow its predecessor', at[1]],
    );
  });

  test('a frame that was moved to another place, in its file or in another', async () => {
    const files = new MemoryFiles();
    const { log } = await openLog(files);
    // of the same length, so that only the rolling checksum can tell
    for (const lsn of [1, 2, 3])
      log.append([version(lsn, { namespace: 'n', set: 's', image: Buffer.of(lsn) })]);
    await log.seal(clock(3));
    log.append([version(4, { namespace: 'n', set: 's', image: Buffer.of(4) })]);
    await log.seal(clock(4));
    await log.close();
    const first = files.bytesOf(logPath(1, 'wal'));
    const second = files.bytesOf(logPath(2, 'wal'));
    const at = framesOf(first);
    const frame = (bytes: Buffer, i: number): Buffer =>
      bytes.subarray(framesOf(bytes)[i], framesOf(bytes)[i + 1]);
    const swapped = Buffer.concat([
      first.subarray(0, at[0]),
      frame(first, 1),
      frame(first, 0),
      first.subarray(at[2]),
    ]);
    const repeated = Buffer.concat([first.subarray(0, at[1]), frame(first, 0), first.subarray(at[2])]);
    const dropped = Buffer.concat([first.subarray(0, at[1]), first.subarray(at[2])]);
    const fromOther = Buffer.concat([first.subarray(0, at[0]), frame(second, 0), first.subarray(at[1])]);
    for (const bytes of [swapped, repeated, dropped, fromOther]) {
      const damaged = files.copy();
      damaged.put(logPath(1, 'wal'), bytes);
      const error = await refusal(openLog(damaged), 'a moved frame');
      assert.equal(error.id, 'log-corrupt');
      assert.match(String(error.facts.why), /does not follow|LSN/);
    }
  });
});

describe('local log: files that do not belong together', () => {
  test('a missing file in the middle', async () => {
    const files = await sealedFiles(3);
    files.delete(logPath(2, 'wal'));
    assert.equal((await refusal(openLog(files), 'a hole')).id, 'log-corrupt');
  });

  test('missing oldest files are a gap unless the store has their versions', async () => {
    const files = await sealedFiles(3);
    files.delete(logPath(1, 'wal'));
    assert.equal((await refusal(openLog(files.copy()), 'no start')).id, 'log-gap');
    assert.equal((await openLog(files.copy(), { afterLsn: 3 })).entries.length, 6);
  });

  test('a lost store is a gap also when the files that are left hold clock frames only', async () => {
    const files = await sealedFiles(2);
    const { log } = await openLog(files);
    await log.seal(clock(6));
    await log.trim(6);
    await log.close();
    assert.deepEqual(files.namesIn(DIR), ['000000000003.wal']);
    assert.equal((await openLog(files.copy(), { afterLsn: 6 })).recovery.lastLsn, 6);
    assert.equal((await refusal(openLog(files.copy()), 'an empty store')).id, 'log-gap');
  });

  test('missing newest files are a gap: the store is never ahead of its log', async () => {
    const files = await sealedFiles(3);
    files.delete(logPath(3, 'wal'));
    assert.equal((await refusal(openLog(files.copy(), { afterLsn: 9 }), 'no end')).id, 'log-gap');
    for (const n of [1, 2]) files.delete(logPath(n, 'wal'));
    assert.equal((await refusal(openLog(files.copy(), { afterLsn: 9 }), 'no log')).id, 'log-gap');
  });

  test('an unsealed file with a successor', async () => {
    const files = await sealedFiles(2);
    files.put(logPath(1, 'open'), files.bytesOf(logPath(1, 'wal')));
    files.delete(logPath(1, 'wal'));
    assert.equal((await refusal(openLog(files), 'an open file in the middle')).id, 'log-corrupt');
  });

  test('a duplicate under another name, and two files exchanged', async () => {
    const duplicate = await sealedFiles(2);
    duplicate.put(logPath(3, 'wal'), duplicate.bytesOf(logPath(2, 'wal')));
    assert.equal((await refusal(openLog(duplicate), 'a duplicate')).id, 'log-corrupt');
    const exchanged = await sealedFiles(3);
    const second = exchanged.bytesOf(logPath(2, 'wal'));
    exchanged.put(logPath(2, 'wal'), exchanged.bytesOf(logPath(3, 'wal')));
    exchanged.put(logPath(3, 'wal'), second);
    assert.equal((await refusal(openLog(exchanged), 'exchanged files')).id, 'log-corrupt');
  });

  test('the same file of the same engine’s other past: it does not follow its predecessor', async () => {
    const files = await sealedFiles(2);
    const other = new MemoryFiles();
    const { log } = await openLog(other);
    log.append([version(1, { generation: 999 }), version(2), version(3)]);
    await log.seal(clock(3));
    log.append(batch(4, 3));
    await log.seal(clock(6));
    files.put(logPath(2, 'wal'), other.bytesOf(logPath(2, 'wal')));
    const error = await refusal(openLog(files), 'a file of another past');
    assert.equal(error.id, 'log-corrupt');
    assert.match(String(error.facts.why), /predecessor/);
  });

  test('another engine’s file is refused before anything of it is replayed', async () => {
    const files = await sealedFiles(2);
    const foreign = await sealedFiles(3, 'f'.repeat(32));
    files.put(logPath(3, 'wal'), foreign.bytesOf(logPath(3, 'wal')));
    const seen: string[] = [];
    const { LocalLog } = await import('../../wal/local-log.ts');
    const error = await refusal(
      LocalLog.open({
        dir: '/engine',
        engineId: 'e'.repeat(32),
        stream: 'main',
        timeline: '0123456789abcdef',
        afterLsn: 0,
        epoch: 1,
        files,
        replay: (e) => e.kind === 'version' && seen.push(String(e.version.lsn)),
      }),
      'a foreign file',
    );
    assert.equal(error.id, 'log-foreign');
    assert.equal(error.facts.actual, 'f'.repeat(32));
    assert.deepEqual(seen, ['1', '2', '3', '4', '5', '6']);
  });

  test('a future format version is refused by name, not as corruption, and not touched', async () => {
    for (const kind of ['wal', 'open'] as const) {
      const files = await sealedFiles(2);
      const bytes = Buffer.from(files.bytesOf(logPath(2, 'wal')));
      bytes.writeUInt16LE(LOG_VERSION + 1, 8);
      files.delete(logPath(2, 'wal'));
      files.put(logPath(2, kind), bytes);
      const error = await refusal(openLog(files), 'a future version');
      assert.equal(error.id, 'format-version');
      assert.deepEqual(
        { version: error.facts.version, supported: error.facts.supported },
        { version: LOG_VERSION + 1, supported: LOG_VERSION },
      );
      assert.deepEqual(
        files.namesIn(DIR).filter((n) => n.endsWith('.broken')),
        [],
      );
      assert.deepEqual(files.bytesOf(logPath(2, kind)), bytes);
    }
  });

  test('names that are no log files are left alone', async () => {
    const files = await sealedFiles(1);
    for (const name of ['000000000002.wal.broken', 'notes.txt', '12.wal'])
      files.put(`${DIR}/${name}`, Buffer.of(1));
    assert.equal((await openLog(files)).entries.length, 3);
  });
});

test('a frame length far over the limit is refused before anything is allocated for it', async () => {
  const files = await sealedFiles(1);
  const bytes = Buffer.from(files.bytesOf(logPath(1, 'wal')));
  const [at] = framesOf(bytes);
  bytes.writeUInt32LE(0xffffffff, at + 4);
  assert.ok(at + FRAME_HEADER_BYTES < bytes.length);
  assert.throws(
    () => scanLogFile(bytes, 'x', false, () => undefined),
    (e) => isPitrError(e, 'log-corrupt') && e.facts.why === 'frame of 4294967295 bytes',
  );
});
