/**
 * Every cut and every flipped bit of what pitr keeps, where test/wal does not have it already (the log, segments, documents by
 * kind): the result is exactly what was written or a refusal from the table of errors, within bounded time and memory.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { type ErrorId, PitrError } from '../../engine/errors.ts';
import { decodeIdentity, encodeIdentity, newIdentity } from '../../engine/identity.ts';
import { readRecordFile } from '../../engine/record-file.ts';
import { encodeState, state } from '../../engine/state-record.ts';
import { snapshotIndexSchema, snapshotSchema } from '../../snapshot/manifest.ts';
import { readArchived, writeArchived } from '../../wal/archived.ts';
import { type DocumentKind, decodeDocument, encodeDocument } from '../../wal/document.ts';
import { documentTargets } from '../fuzz/document-targets.ts';
import { closeDoor, doorTarget } from '../fuzz/door-target.ts';
import { clock, mark, openLog, version } from '../wal/log-support.ts';
import { logPath, MemoryFiles } from '../wal/memory-files.ts';

const scratch = mkdtempSync(join(tmpdir(), 'pitr-damage-'));
after(async () => {
  rmSync(scratch, { recursive: true });
  await closeDoor();
});

/** Every prefix that is shorter, and every flipped bit (of every `step`th byte). */
function* damaged(bytes: Buffer, step = 1): Generator<{ what: string; bytes: Buffer }> {
  for (let cut = 0; cut < bytes.length; cut += step)
    yield { what: `cut at ${cut}`, bytes: bytes.subarray(0, cut) };
  for (let at = 0; at < bytes.length; at += step)
    for (let bit = 0; bit < 8; bit++) {
      const copy = Buffer.from(bytes);
      copy[at] ^= 1 << bit;
      yield { what: `bit ${bit} of byte ${at}`, bytes: copy };
    }
}

/** Decodes every damage of `bytes`: the value of the whole, or a refusal with one of `ids`. Returns how many were refused. */
const exactOrRefused = async (
  bytes: Buffer,
  ids: readonly ErrorId[],
  decode: (bytes: Buffer) => unknown,
  step = 1,
): Promise<number> => {
  const whole = await decode(bytes);
  let refused = 0;
  for (const { what, bytes: bad } of damaged(bytes, step)) {
    try {
      assert.deepEqual(await decode(bad), whole, `${what} changed what is read`);
    } catch (error) {
      if (!(error instanceof PitrError)) throw error;
      assert.ok(ids.includes(error.id), `${what}: ${error.id}`);
      refused++;
    }
  }
  return refused;
};

describe('every cut and every flipped bit', () => {
  for (const target of documentTargets) {
    const kind = target.name.slice('document-'.length) as DocumentKind;
    const schema = { snapshots: snapshotIndexSchema, snapshot: snapshotSchema }[kind as string];
    test(`of a document of kind ${kind} is refused`, async () => {
      const bytes = encodeDocument(kind, JSON.parse(target.seeds[0].toString()));
      const ids = ['object-corrupt', 'format-version'] as const;
      const decode = (b: Buffer) => decodeDocument(kind, b, 'x', schema);
      assert.equal(await exactOrRefused(bytes, ids, decode), bytes.length * 9);
    });
  }

  test('of engine.json is refused, but for the line end', async () => {
    const identity = newIdentity(
      {
        archive: { url: 'file:/x', id: 'a'.repeat(32) },
        fork: { timeline: '0'.repeat(16), ts: 5, positions: { main: 7 }, ttl: { mode: 'shift', seconds: 3 } },
      },
      1,
    );
    const bytes = Buffer.from(encodeIdentity(identity));
    const decode = (b: Buffer) => decodeIdentity(b.toString(), 'x');
    const refused = await exactOrRefused(bytes, ['not-an-engine', 'format-version'], decode);
    // spaces between tokens may become other white space
    assert.ok(refused > bytes.length * 9 * 0.95, `${refused} of ${bytes.length * 9}`);
  });

  test('of archived.json counts as "nothing archived": no flipped digit lets the engine trim', async () => {
    const files = new MemoryFiles();
    await writeArchived('/e', { lsn: 1234, sequence: 56 }, files);
    for (const { what, bytes } of damaged(files.bytesOf('/e/archived.json')))
      assert.deepEqual(
        await readArchived('/e', new MemoryFiles(new Map([['/e/archived.json', bytes]]))),
        { lsn: 0, sequence: 0 },
        what,
      );
  });

  test('of a file of records is refused, but behind its end', async () => {
    const chunk = Buffer.alloc(8 + 30);
    chunk.writeUInt32LE(21, 0);
    chunk.writeUInt32LE(9, 4);
    const { crc32 } = await import('node:zlib');
    const head = Buffer.alloc(8);
    head.writeUInt32LE(chunk.length, 0);
    head.writeUInt32LE(crc32(chunk), 4);
    const path = join(scratch, 'records');
    const decode = async (b: Buffer) => {
      writeFileSync(path, b);
      const found: unknown[] = [];
      for await (const changes of readRecordFile(path)) found.push(...changes);
      return found;
    };
    const bytes = Buffer.concat([head, chunk, Buffer.alloc(8)]);
    const refused = await exactOrRefused(bytes, ['object-corrupt'], decode);
    // the checksum field of the empty chunk at the end says nothing
    assert.equal(refused, bytes.length * 9 - 4 * 8);
  });

  test('of a sealed log file with a batch, an event and a clock frame is refused', async () => {
    const files = new MemoryFiles();
    const { log } = await openLog(files);
    log.append([version(1, { batchMore: true }), version(2)]);
    log.appendEvent(mark(3));
    log.appendClock(clock(3));
    log.append([version(4)]);
    await log.seal(clock(4));
    const path = logPath(1, 'wal');
    const bytes = files.bytesOf(path);
    const decode = async (b: Buffer) => (await openLog(new MemoryFiles(new Map([[path, b]])))).entries;
    const ids = ['log-corrupt', 'format-version'] as const;
    assert.equal(await exactOrRefused(bytes, ids, decode), bytes.length * 9);
  });

  test('of a store value: a cut within its header is refused; the store has no checksum of its own', () => {
    const value = encodeState(
      { generation: 1, voidTime: 2, ts: 3, lsn: 4, lut: 5 },
      'set',
      Buffer.from('image'),
    );
    for (let cut = 0; cut < 28; cut++)
      assert.throws(
        () => state.check(value.subarray(0, cut), 'x'),
        (e) => e instanceof PitrError && e.id === 'store-corrupt',
      );
    state.check(value.subarray(0, 28), 'x');
  });

  test('of a request to the door is answered: refused or as any other request', async () => {
    let answered = 0;
    for (const seed of doorTarget.seeds)
      for (const { bytes } of damaged(seed, 7)) {
        if (bytes.includes(10)) continue;
        await doorTarget.run(bytes);
        answered++;
      }
    assert.ok(answered > 300);
  });
});

after(() => {
  const { maxRSS } = process.resourceUsage();
  // in kB; node with its modules is about 100 MB
  assert.ok(maxRSS < 400 * 1024, `${maxRSS} kB`);
});
