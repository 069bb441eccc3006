import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { isPitrError } from '../../engine/errors.ts';
import type { TruncateEvent } from '../../wal/event.ts';
import { encodeSegment, openBytes } from './segment-support.ts';

const truncation: TruncateEvent = {
  kind: 'truncate',
  stream: 'a',
  epoch: 1,
  lsn: 5,
  ts: 1000,
  namespace: 'test',
  set: null,
  cutoffLut: 1000,
  partitions: '0-4095',
};

test('A truncation whose cutoff is not a number is refused when its segment is read', async () => {
  for (const cutoffLut of [Number.NaN, Number.POSITIVE_INFINITY, null as never]) {
    const { bytes, ref } = encodeSegment([], [{ ...truncation, cutoffLut }]);
    const reader = await openBytes(bytes, ref);
    await assert.rejects(reader.events(), (e) => isPitrError(e, 'object-corrupt'));
  }
  const { bytes, ref } = encodeSegment([], [truncation]);
  assert.deepEqual(await (await openBytes(bytes, ref)).events(), [truncation]);
});
