/** LevelDB through classic-level, every write with `sync: true`. Its writers are threads of libuv's pool, and it groups theirs. */
import { jobOf } from '../../cli/bench/isolate.ts';
import { Workload } from '../../cli/bench/workload.ts';
import { BATCH, KEYS, type Peer, type PeerArgs, rateOf, VALUES, WRITERS } from './peer.ts';

interface Level {
  open(): Promise<void>;
  put(key: Buffer, value: Buffer, options: { sync: boolean }): Promise<void>;
  batch(ops: { type: 'put'; key: Buffer; value: Buffer }[], options: { sync: boolean }): Promise<void>;
  close(): Promise<void>;
}

const MODULE: string = 'classic-level';
const SYNC = { sync: true };

export const levelJob = jobOf(import.meta.url, 'level');
export const level = async ({ dir, ms }: PeerArgs): Promise<Peer> => {
  let db: Level;
  let version: string;
  try {
    const { ClassicLevel } = await import(MODULE);
    ({ version } = (await import(`${MODULE}/package.json`, { with: { type: 'json' } })).default);
    db = new ClassicLevel(dir, { keyEncoding: 'buffer', valueEncoding: 'buffer' });
    await db.open();
  } catch (error) {
    return { name: MODULE, absent: (error as Error).message.split('\n')[0] };
  }
  const workload = new Workload(0);
  const values = Array.from({ length: VALUES }, (_, i) => workload.value(i, 1));
  let n = 0;
  const next = (): { type: 'put'; key: Buffer; value: Buffer } => {
    n++;
    const key = Buffer.allocUnsafe(8);
    key.writeBigInt64BE(BigInt(Math.abs(Math.imul(n, 2654435761) % KEYS)));
    return { type: 'put', key, value: values[n % VALUES] };
  };
  const put = (): Promise<void> => {
    const { key, value } = next();
    return db.put(key, value, SYNC);
  };
  try {
    const one = await rateOf(1, ms, put);
    const many = await rateOf(WRITERS, ms, put);
    const batches = await rateOf(1, ms, () => db.batch(Array.from({ length: BATCH }, next), SYNC));
    return {
      name: MODULE,
      version,
      how: 'sync: true',
      commitsPerSecond: { 1: one, 64: many },
      batchChangesPerSecond: batches * BATCH,
    };
  } finally {
    await db.close();
  }
};
