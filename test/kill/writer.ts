/**
 * A process that opens an engine, says what it found, and writes step after step until it is killed:
 *
 *     node writer.ts DIR
 *     < {"found":{"step":12,"fingerprint":"…","records":80}}
 *     < 13                        a step that is acknowledged
 */
import { writeSync } from 'node:fs';
import type { BatchOp } from '../../engine/engine-types.ts';
import { Engine } from '../../wal/engine.ts';
import { fingerprintOf, HOT_RECORDS, NAMESPACE, sizeOf, textOf } from './content.ts';
import { stateOf } from './state.ts';

/** Steps that wait for their acknowledgement together. */
const AT_ONCE = 4;

const say = (line: string): void => {
  // synchronous: what was said is with the reader however soon the kill comes
  writeSync(1, `${line}\n`);
};

const put = (key: string, text: string): BatchOp => ({
  op: 'put',
  key: { namespace: NAMESPACE, set: 's', key },
  bins: { key, text },
});

const opsOf = (n: number): BatchOp[] => {
  const ops = Array.from({ length: sizeOf(n) }, (_, i) => put(`${n}.${i}`, `${n} ${textOf(n + i)}`));
  ops.push(put('counter', `${n}`), put(`hot.${n % HOT_RECORDS}`, `${n} ${textOf(n)}`));
  const old = n - 20;
  if (old > 0 && old % 5 === 0)
    for (let i = 0; i < sizeOf(old); i++)
      ops.push({ op: 'delete', key: { namespace: NAMESPACE, set: 's', key: `${old}.${i}` } });
  return ops;
};

const engine = await Engine.open({ dir: process.argv[2], sealMs: 30, lockWaitMs: 20_000 });
const records = await stateOf(engine);
let step = Number(records.get('counter') ?? 0);
const { versions, tornBytes } = engine.report;
say(
  JSON.stringify({
    found: { step, fingerprint: fingerprintOf(records), records: records.size, versions, tornBytes },
  }),
);

for (;;) {
  const waiting = Array.from({ length: AT_ONCE }, () => {
    const n = ++step;
    return engine.batch(opsOf(n)).then(() => say(String(n)));
  });
  await Promise.all(waiting);
  // some air: the test is about moments, not about volume
  await new Promise((resolve) => setTimeout(resolve, 30));
}
