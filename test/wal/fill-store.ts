/**
 * A process that opens an engine and writes until that fails: says how much was acknowledged, and the error. With `lift` it
 * takes its limit of file sizes away then, opens the engine again, and goes on.
 *
 *     node fill-store.ts DIR [lift]
 */
import { execFileSync } from 'node:child_process';
import type { PitrError } from '../../engine/errors.ts';
import { Engine } from '../../wal/engine.ts';

const MAX = 2000;
const IMAGE = Buffer.alloc(16_000, 1);
let acknowledged = 0;
let failure: PitrError | undefined;
const put = (engine: Engine, n: number) =>
  engine.put({ namespace: 'test', set: n % 2 ? 'odd' : '', key: n }, { n, image: IMAGE });

const [dir, lift] = process.argv.slice(2);
let engine: Engine | undefined;
try {
  engine = await Engine.open({ dir, sealMs: 0 });
  for (let n = 1; n <= MAX; n++) {
    await put(engine, n);
    acknowledged = n;
    // each record in the store at once, and the log in small files
    await engine.sealApplied();
  }
} catch (error) {
  failure = error as PitrError;
}
const read = (await engine?.get({ namespace: 'test', set: 'odd', key: 1 }))?.bins.n ?? null;
await engine?.close();
let again: number | null = null;
if (lift) {
  execFileSync('prlimit', ['--pid', `${process.pid}`, '--fsize=unlimited']);
  engine = await Engine.open({ dir, sealMs: 0 });
  await put(engine, MAX + 1);
  await engine.sealApplied();
  again = engine.lastLsn;
  await engine.close();
}
const { id, hint, message } = failure ?? {};
console.log(JSON.stringify({ acknowledged, error: id ?? null, hint, message, read, again }));
