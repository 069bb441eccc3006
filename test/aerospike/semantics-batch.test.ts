/** Many records in one request: rows, what they inherit, what a failing one does to the others. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import {
  addressFields,
  getOf,
  NAMESPACE,
  OTHER_NAMESPACE,
  putOf,
  type RecordAddress,
  Subject,
  seen,
} from './subject.ts';
import {
  append,
  BATCH,
  CREATE_ONLY,
  cdtRead,
  DELETE,
  expRead,
  field,
  GET_ALL,
  incr,
  int,
  LAST,
  type MessageParts,
  message,
  NO_BINS,
  op,
  READ,
  RESPOND_ALL_OPS,
  type Reply,
  read,
  u16,
  u32,
  utf8,
  WRITE,
} from './wire-bytes.ts';

/** What the official client sends: inline in memory, all rows answered, each with its own error. */
const CLIENT_FLAGS = 0x0d;
const INLINE = 0x01;
const RESPOND_ALL_KEYS = 0x04;
const REPORT_ERRORS = 0x08;

const INFO = 0x02;
const WITH_GENERATION = 0x04;
const WITH_TTL = 0x08;

type RowParts = Omit<MessageParts, 'info4' | 'timeoutMs'> & {
  readonly index: number;
  readonly digest: Uint8Array;
};

/** A row that says everything of itself. */
const row = (parts: RowParts): Buffer =>
  Buffer.concat([
    u32(parts.index),
    parts.digest,
    Uint8Array.of(INFO | WITH_GENERATION | WITH_TTL, parts.info1 ?? 0, parts.info2 ?? 0, parts.info3 ?? 0),
    u16(parts.generation ?? 0),
    u32(parts.ttl ?? 0),
    u16(parts.fields?.length ?? 0),
    u16(parts.ops?.length ?? 0),
    ...(parts.fields ?? []),
    ...(parts.ops ?? []),
  ]);

/** A row that is as the one before, but for its digest. */
const repeat = (index: number, digest: Uint8Array): Buffer =>
  Buffer.concat([u32(index), digest, Uint8Array.of(1)]);

const batch = (flags: number, rows: readonly Uint8Array[], fields: readonly Uint8Array[] = []): Buffer =>
  message({
    info1: BATCH,
    fields: [...fields, field(41, Buffer.concat([u32(rows.length), Uint8Array.of(flags), ...rows]))],
  });

const name = (record: RecordAddress): Buffer[] => addressFields(record.set, record.digest).slice(0, 2);

const getRow = (index: number, record: RecordAddress, more: Partial<RowParts> = {}): Buffer =>
  row({
    index,
    digest: record.digest,
    info1: READ | GET_ALL,
    ...more,
    fields: [...name(record), ...(more.fields ?? [])],
  });
const putRow = (
  index: number,
  record: RecordAddress,
  ops: readonly Uint8Array[],
  more: Partial<RowParts> = {},
): Buffer =>
  row({
    index,
    digest: record.digest,
    info2: WRITE | RESPOND_ALL_OPS,
    ...more,
    fields: [...name(record), ...(more.fields ?? [])],
    ops,
  });

describe('batches', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());

  const written = async (value: number): Promise<RecordAddress> => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', value)]));
    return record;
  };
  const value = (n: number) => `1 a 1:${n.toString(16).padStart(16, '0')}`;

  /** The rows in the order of their index, and the last message, which comes in a frame of its own. */
  const answers = async (request: Buffer): Promise<{ rows: Map<number, Reply>; last: Reply }> => {
    const frames = await wire.frames(request);
    const last = frames.at(-1)!;
    assert.equal(last.length, 1, 'the last message is alone in its frame');
    assert.equal(last[0]!.info[2] & LAST, LAST);
    const rows = frames.slice(0, -1).flat();
    assert(rows.every((r) => r.info[2] === 0 && r.fields.size === 0));
    assert.equal(new Set(rows.map((r) => r.row)).size, rows.length, 'no row twice');
    return { rows: new Map(rows.map((r) => [r.row, r])), last: last[0]! };
  };
  const rowsOf = ({ rows }: { readonly rows: Map<number, Reply> }) =>
    [...rows].sort(([a], [b]) => a - b).map(([index, reply]) => [index, ...seen(reply)]);

  test('each row is answered under its index, the missing one with 2, and the last message says 0', async () => {
    const records = [await written(1), subject.fresh(), await written(3)];
    const request = batch(
      CLIENT_FLAGS,
      records.map((r, i) => getRow(10 + i, r)),
    );
    const result = await answers(request);
    assert.deepEqual(rowsOf(result), [
      [10, 0, 1, value(1)],
      [11, 2, 0],
      [12, 0, 1, value(3)],
    ]);
    assert.equal(result.last.code, 0);
  });

  test('a repeated row takes over what the one before asks for', async () => {
    const records = [await written(1), await written(2), await written(3)];
    const rows = records.map((r, i) => (i === 0 ? getRow(0, r) : repeat(i, r.digest)));
    assert.deepEqual(rowsOf(await answers(batch(CLIENT_FLAGS, rows))), [
      [0, 0, 1, value(1)],
      [1, 0, 1, value(2)],
      [2, 0, 1, value(3)],
    ]);
  });

  test('a repeated row takes over operations, generation and time to live', async () => {
    const records = [subject.fresh(), subject.fresh()];
    const rows = [putRow(0, records[0]!, [int('a', 7)], { ttl: 1000 }), repeat(1, records[1]!.digest)];
    const { rows: replies } = await answers(batch(CLIENT_FLAGS, rows));
    for (const index of [0, 1]) {
      assert.deepEqual(seen(replies.get(index)!), [0, 1, '2 a 0:']);
      assert.notEqual(replies.get(index)!.voidTime, 0);
    }
    assert.deepEqual(seen(await wire.call(getOf(records[1]!))), [0, 1, value(7)]);
  });

  test('the first row cannot repeat: 4', async () => {
    const record = await written(1);
    const { last } = await answers(batch(CLIENT_FLAGS, [repeat(0, record.digest)]));
    assert.equal(last.code, 4);
  });

  test('rows of every kind go in one batch: all bins, some, none, metadata, an expression', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1), int('b', 2)]));
    const rows = [
      getRow(0, record),
      getRow(1, record, { info1: READ, ops: [read('b'), read('x')] }),
      getRow(2, record, { info1: READ | NO_BINS }),
      getRow(3, record, { info1: READ, ops: [expRead('e', '91 45')] }),
    ];
    assert.deepEqual(rowsOf(await answers(batch(CLIENT_FLAGS, rows))), [
      [0, 0, 1, value(1), '1 b 1:0000000000000002'],
      [1, 0, 1, '1 b 1:0000000000000002'],
      [2, 0, 1],
      // read in a row, a value has the operation of a plain read
      [3, 0, 1, '1 e 1:ffffffffffffffff'],
    ]);
  });

  test('writes, removes and operations are rows like reads', async () => {
    const [put, removed, counted, missing] = [
      subject.fresh(),
      await written(1),
      await written(5),
      subject.fresh(),
    ];
    const remove = { info2: WRITE | DELETE | RESPOND_ALL_OPS };
    const rows = [
      putRow(0, put, [int('a', 1)]),
      putRow(1, removed, [], remove),
      putRow(2, counted, [incr('a', 2), read('a')], { info1: READ }),
      putRow(3, missing, [], remove),
    ];
    assert.deepEqual(rowsOf(await answers(batch(CLIENT_FLAGS, rows))), [
      [0, 0, 1, '2 a 0:'],
      [1, 0, 0],
      [2, 0, 2, '5 a 0:', value(7)],
      [3, 2, 0],
    ]);
    assert.equal((await wire.call(getOf(removed))).code, 2);
    assert.deepEqual(seen(await wire.call(getOf(put))), [0, 1, value(1)]);
  });

  test('the conditions of a row are its own', async () => {
    const [a, b] = [await written(1), await written(2)];
    const rows = [
      putRow(0, a, [int('a', 9)], { info2: WRITE | CREATE_ONLY }),
      putRow(1, b, [int('a', 9)], { info2: WRITE | 0x04, generation: 1 }),
      putRow(2, a, [int('a', 9)], { info2: WRITE | 0x04, generation: 7 }),
    ];
    assert.deepEqual(rowsOf(await answers(batch(CLIENT_FLAGS, rows))), [
      [0, 5, 1],
      [1, 0, 2],
      [2, 3, 1],
    ]);
  });

  test('what a row computes has the operation of a read, unless the row writes', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [op(2, 'l', 20, Buffer.of(0x91, 1))]));
    const size = cdtRead('l', '91 10');
    const rows = [
      getRow(0, record, { info1: READ, ops: [size, expRead('e', '91 45'), read('x')] }),
      getRow(1, record, { info1: READ, info2: RESPOND_ALL_OPS, ops: [size, read('x')] }),
      putRow(2, record, [int('a', 1), size], { info1: READ, info2: WRITE }),
    ];
    assert.deepEqual(rowsOf(await answers(batch(CLIENT_FLAGS, rows))), [
      [0, 0, 1, '1 l 1:0000000000000001', '1 e 1:ffffffffffffffff'],
      [1, 0, 1, '1 l 1:0000000000000001', '1 x 0:'],
      [2, 0, 2, '3 l 1:0000000000000001'],
    ]);
  });

  describe('a failing row', () => {
    const failing = async (): Promise<Buffer[]> => {
      const record = await written(1);
      const wrongType = putRow(1, record, [append('a', 'x')], { info2: WRITE });
      return [getRow(0, record), wrongType, getRow(2, record)];
    };
    const all = [
      [0, 0, 1, value(1)],
      [1, 12, 1],
      [2, 0, 1, value(1)],
    ];

    for (const flags of [RESPOND_ALL_KEYS, RESPOND_ALL_KEYS | REPORT_ERRORS, CLIENT_FLAGS]) {
      test(`is answered like the others, and the whole says 0, with flags ${flags}`, async () => {
        const result = await answers(batch(flags, await failing()));
        assert.deepEqual(rowsOf(result), all);
        assert.equal(result.last.code, 0);
      });
    }

    for (const flags of [REPORT_ERRORS, REPORT_ERRORS | INLINE]) {
      test(`is answered like the others, and the whole says its code, with flags ${flags}`, async () => {
        const result = await answers(batch(flags, await failing()));
        assert.deepEqual(rowsOf(result), all);
        assert.equal(result.last.code, 12);
      });
    }

    for (const flags of [0, INLINE]) {
      test(`is all that is said, in the last message, with flags ${flags}`, async () => {
        const result = await answers(batch(flags, await failing()));
        assert.deepEqual(rowsOf(result), []);
        assert.equal(result.last.code, 12);
      });
    }

    test('is none that is missing or filtered out, whatever the flags', async () => {
      const record = await written(1);
      for (const flags of [0, INLINE, RESPOND_ALL_KEYS, REPORT_ERRORS, CLIENT_FLAGS]) {
        const rows = [
          getRow(0, subject.fresh()),
          getRow(1, record, { fields: [field(43, Buffer.of(0xc2))] }),
          getRow(2, record),
        ];
        const result = await answers(batch(flags, rows));
        assert.deepEqual(rowsOf(result), [
          [0, 2, 0],
          [1, 27, 1],
          [2, 0, 1, value(1)],
        ]);
        assert.equal(result.last.code, 0);
      }
    });
  });

  describe('filters', () => {
    test('a row with a filter that is false answers 27', async () => {
      const record = await written(1);
      const equal = (n: number) => field(43, Buffer.of(0x93, 0x01, 0x93, 0x51, 0x02, 0xa1, 0x61, n));
      const rows = [getRow(0, record, { fields: [equal(1)] }), getRow(1, record, { fields: [equal(2)] })];
      assert.deepEqual(rowsOf(await answers(batch(CLIENT_FLAGS, rows))), [
        [0, 0, 1, value(1)],
        [1, 27, 1],
      ]);
    });

    test('the filter of the batch holds for rows that have none', async () => {
      const record = await written(1);
      const never = field(43, Buffer.of(0xc2));
      const always = field(43, Buffer.of(0xc3));
      const rows = [getRow(0, record), getRow(1, record, { fields: [always] }), repeat(2, record.digest)];
      assert.deepEqual(rowsOf(await answers(batch(CLIENT_FLAGS, rows, [never]))), [
        [0, 27, 1],
        [1, 0, 1, value(1)],
        [2, 0, 1, value(1)],
      ]);
    });

    test('a row read on the condition of its last update time gives the bins of that very version', async () => {
      const record = await written(1);
      const [lut] = (await wire.call(getOf(record, { info1: READ }))).ops;
      assert.equal(lut, undefined);
      const read66 = getRow(0, record, { info1: READ, ops: [expRead('lut', '91 42')] });
      const { rows } = await answers(batch(CLIENT_FLAGS, [read66]));
      const nanos = Buffer.from(rows.get(0)!.ops[0]!.split(':')[1]!, 'hex');
      const same = field(43, Buffer.concat([Buffer.of(0x93, 0x01, 0x91, 0x42, 0xcf), nanos]));
      const guarded = batch(CLIENT_FLAGS, [getRow(0, record, { fields: [same] })]);
      assert.deepEqual(rowsOf(await answers(guarded)), [[0, 0, 1, value(1)]]);
      // until a clock of milliseconds has gone on, a rewrite may look like the version before
      for (let lut = nanos; lut.equals(nanos); ) {
        await wire.call(putOf(record, [int('a', 2)]));
        const reread = await answers(batch(CLIENT_FLAGS, [read66]));
        lut = Buffer.from(reread.rows.get(0)!.ops[0]!.split(':')[1]!, 'hex');
      }
      assert.equal((await answers(guarded)).rows.get(0)!.code, 27);
    });
  });

  test('an unknown namespace in any row breaks the batch with 4', async () => {
    const record = await written(1);
    const nowhere = row({
      index: 1,
      digest: record.digest,
      info1: READ | GET_ALL,
      fields: [field(0, utf8('nowhere')), field(1, utf8(record.set))],
    });
    const { last, rows } = await answers(
      batch(CLIENT_FLAGS, [getRow(0, record), nowhere, getRow(2, record)]),
    );
    assert.equal(last.code, 4);
    assert.equal(rows.get(2), undefined);
  });

  test('a row that ends early, or does without a namespace, breaks the batch with 4', async () => {
    const record = await written(1);
    const nameless = row({ index: 1, digest: record.digest, info1: READ | GET_ALL });
    assert.equal((await answers(batch(CLIENT_FLAGS, [getRow(0, record), nameless]))).last.code, 4);
    const short = getRow(1, record).subarray(0, -1);
    assert.equal((await answers(batch(CLIENT_FLAGS, [getRow(0, record), short]))).last.code, 4);
  });

  test('a row may leave out generation and time to live, and give but its first flags', async () => {
    const record = await written(1);
    const counts = Buffer.concat([u16(2), u16(0), ...name(record)]);
    const bare = Buffer.concat([u32(0), record.digest, Uint8Array.of(0, READ | GET_ALL), counts]);
    const flags = Buffer.concat([u32(1), record.digest, Uint8Array.of(INFO, READ | GET_ALL, 0, 0), counts]);
    assert.deepEqual(rowsOf(await answers(batch(CLIENT_FLAGS, [bare, flags]))), [
      [0, 0, 1, value(1)],
      [1, 0, 1, value(1)],
    ]);
  });

  test('a row with another set than its record has answers 4', async () => {
    const record = await written(1);
    const other = row({
      index: 0,
      digest: record.digest,
      info1: READ | GET_ALL,
      fields: [field(0, utf8(NAMESPACE)), field(1, utf8(`${record.set}-other`))],
    });
    assert.deepEqual(rowsOf(await answers(batch(CLIENT_FLAGS, [other]))), [[0, 4, 1]]);
  });

  test('no row at all is refused with 4', async () => {
    assert.equal((await wire.frames(batch(CLIENT_FLAGS, []))).flat().at(-1)!.code, 4);
  });

  test('a count of rows beyond the field is refused with 4', async () => {
    const record = await written(1);
    const body = Buffer.concat([u32(2), Uint8Array.of(CLIENT_FLAGS), getRow(0, record)]);
    const own = await subject.connect();
    const frames = await own.frames(message({ info1: BATCH, fields: [field(41, body)] }));
    assert.equal(frames.flat().at(-1)!.code, 4);
  });

  test('a row may name another namespace and another set than the one before', async () => {
    const record = await written(1);
    const bar = row({
      index: 1,
      digest: record.digest,
      info1: READ | GET_ALL,
      fields: [field(0, utf8(OTHER_NAMESPACE)), field(1, utf8('elsewhere'))],
    });
    assert.deepEqual(rowsOf(await answers(batch(CLIENT_FLAGS, [getRow(0, record), bar]))), [
      [0, 0, 1, value(1)],
      [1, 2, 0],
    ]);
  });

  test('five thousand rows are answered, each once', async () => {
    const record = await written(1);
    const rows = Array.from({ length: 5000 }, (_, i) =>
      i === 0 ? getRow(0, record) : repeat(i, record.digest),
    );
    const result = await answers(batch(CLIENT_FLAGS, rows));
    assert.equal(result.rows.size, 5000);
    assert([...result.rows.values()].every((r) => r.code === 0 && r.ops[0] === value(1)));
  });

  test('field 42 says the same as 41', async () => {
    const record = await written(1);
    const body = Buffer.concat([u32(1), Uint8Array.of(CLIENT_FLAGS), getRow(0, record)]);
    assert.deepEqual(rowsOf(await answers(message({ info1: BATCH, fields: [field(42, body)] }))), [
      [0, 0, 1, value(1)],
    ]);
  });
});
