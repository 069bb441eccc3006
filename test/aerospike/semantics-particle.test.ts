/** Values of every type: which are taken, and that they come back as they went in. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import { binNameCorpus, canonicalParticles, refusedParticles } from '../engine/particle-corpus.ts';
import { recordCorpus } from '../engine/record-corpus.ts';
import {
  checkCorpusRecord,
  corpusAddress,
  GEOJSON,
  valueIn,
  writeCorpusRecord,
} from './corpus-on-the-wire.ts';
import { getOf, putOf, readOf, removeOf, Subject } from './subject.ts';
import { hex, int, op, read, utf8 } from './wire-bytes.ts';

describe('values', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());

  const codeOf = async (type: number, value: Uint8Array): Promise<number> =>
    (await wire.call(putOf(subject.fresh(), [op(2, 'a', type, value)]))).code;
  const stored = async (type: number, value: Uint8Array): Promise<string> => {
    const record = subject.fresh();
    assert.equal((await wire.call(putOf(record, [op(2, 'a', type, value)]))).code, 0);
    return (await wire.call(getOf(record))).ops[0]!;
  };

  describe('types', () => {
    test('those that do not exist, or are not for storing, are refused with 4', async () => {
      for (const type of [5, 6, 13, 14, 15, 21, 22, 24, 255])
        assert.deepEqual([type, await codeOf(type, Buffer.of(1))], [type, 4]);
    });

    test('those of other languages, and vectors, are bytes whose type is kept', async () => {
      for (const type of [7, 8, 9, 10, 11, 12, 16])
        assert.equal(await stored(type, hex('00ff')), `1 a ${type}:00ff`);
    });

    test('an integer of 1, 2 or 4 bytes is stored as one of 8, without a sign; there is no other length', async () => {
      for (const [bytes, value] of [
        ['ff', '00000000000000ff'],
        ['7f', '000000000000007f'],
        ['8000', '0000000000008000'],
        ['ffffffff', '00000000ffffffff'],
      ] as const)
        assert.equal(await stored(1, hex(bytes)), `1 a 1:${value}`);
      for (const length of [0, 3, 5, 7, 9])
        assert.deepEqual([length, await codeOf(1, Buffer.alloc(length))], [length, 4]);
    });

    test('a float has 8 bytes', async () => {
      for (const length of [0, 4, 7, 9])
        assert.deepEqual([length, await codeOf(2, Buffer.alloc(length))], [length, 4]);
    });

    test('a boolean is one byte, 0 or 1', async () => {
      assert.equal(await codeOf(17, Buffer.of(0)), 0);
      assert.equal(await codeOf(17, Buffer.of(1)), 0);
      for (const wrong of [Buffer.of(2), Buffer.of(0xff), Buffer.alloc(0), Buffer.alloc(2)])
        assert.deepEqual([wrong, await codeOf(17, wrong)], [wrong, 4]);
    });

    test('GeoJSON is read as it was written, whatever cells the writer gave', async () => {
      const json = '{"type":"Point","coordinates":[0.5,-0.25]}';
      for (const cells of ['00 0000', '00 0001 0fffe00000000001']) {
        const reply = await stored(GEOJSON, Buffer.concat([hex(cells), utf8(json)]));
        assert.equal(valueIn(reply), `a 23:${utf8(json).toString('hex')}`);
      }
    });

    const bad: Record<string, Uint8Array> = {
      'that is no JSON': Buffer.concat([hex('000000'), utf8('{"type":')]),
      'of a kind that does not exist': Buffer.concat([
        hex('000000'),
        utf8('{"type":"Pint","coordinates":[0,0]}'),
      ]),
      'without coordinates': Buffer.concat([hex('000000'), utf8('{"type":"Point"}')]),
      'outside of the earth': Buffer.concat([hex('000000'), utf8('{"type":"Point","coordinates":[0,91]}')]),
    };
    for (const [name, value] of Object.entries(bad))
      test(`GeoJSON ${name} is refused with 160`, async () =>
        assert.equal(await codeOf(GEOJSON, value), 160));

    for (const particle of refusedParticles)
      test(`${particle.name} is refused`, async () => {
        const code = await codeOf(particle.type, particle.bytes);
        assert.equal(code, particle.type === GEOJSON ? 160 : 4);
      });
  });

  describe('the corpus of particles comes back byte for byte', () => {
    for (const particle of canonicalParticles.filter(({ type }) => type !== GEOJSON))
      test(particle.name, async () => {
        const hexOf = Buffer.from(particle.bytes).toString('hex');
        assert.equal(await stored(particle.type, particle.bytes), `1 a ${particle.type}:${hexOf}`);
      });
  });

  describe('the corpus of records comes back as it was written, to a get and to a scan', () => {
    for (const [i, record] of recordCorpus.entries())
      test(record.name, async () => {
        const at = corpusAddress(subject.set, record, i);
        const voidTime = await writeCorpusRecord(wire, at, record);
        await checkCorpusRecord(wire, at, record, { voidTime, generation: 1 });
        if (!record.inSet) await wire.call(removeOf(at));
      });
  });

  test('bin names are bytes, but for NUL: 21', async () => {
    const record = subject.fresh();
    await wire.call(
      putOf(
        record,
        binNameCorpus.map((name) => int(name, 1)),
      ),
    );
    const reply = await wire.call(readOf(record, binNameCorpus.map(read)));
    assert.equal(reply.ops.length, binNameCorpus.length);
    assert.equal((await wire.call(putOf(record, [op(2, hex('610062'), 1, Buffer.alloc(8))]))).code, 21);
  });
});
