/**
 * SQLite in WAL mode with synchronous FULL, through `node:sqlite`, which is always there, and through better-sqlite3. Both are
 * synchronous: however many writers call, each commit is a transaction of its own and syncs by itself.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { jobOf } from '../../cli/bench/isolate.ts';
import { Workload } from '../../cli/bench/workload.ts';
import { BATCH, KEYS, type Peer, type PeerArgs, rateOf, VALUES, WRITERS } from './peer.ts';

type Driver = 'node:sqlite' | 'better-sqlite3';

/** What both have in common. */
interface Database {
  exec(sql: string): unknown;
  prepare(sql: string): { run(...values: unknown[]): unknown; get(): unknown };
  close(): void;
}

const openWith = async (driver: Driver, path: string): Promise<Database> => {
  if (driver === 'node:sqlite') {
    const { DatabaseSync } = await import('node:sqlite');
    return new DatabaseSync(path) as unknown as Database;
  }
  const module: string = driver;
  const { default: Sqlite } = await import(module);
  return new Sqlite(path);
};

export const sqliteJob = jobOf(import.meta.url, 'sqlite');
export const sqlite = async ({ dir, ms, driver }: PeerArgs & { readonly driver: Driver }): Promise<Peer> => {
  mkdirSync(dir, { recursive: true });
  let db: Database;
  try {
    db = await openWith(driver, join(dir, 'peer.db'));
  } catch (error) {
    return { name: driver, absent: (error as Error).message.split('\n')[0] };
  }
  db.exec('pragma journal_mode = wal; pragma synchronous = full');
  db.exec('create table record (key integer primary key, value blob not null)');
  const upsert = db.prepare(
    'insert into record values (?, ?) on conflict do update set value = excluded.value',
  );
  const workload = new Workload(0);
  const values = Array.from({ length: VALUES }, (_, i) => workload.value(i, 1));
  let n = 0;
  const put = (): void => {
    n++;
    upsert.run(Math.abs(Math.imul(n, 2654435761) % KEYS), values[n % VALUES]);
  };
  const inTransaction = (count: number): void => {
    db.exec('begin');
    for (let i = 0; i < count; i++) put();
    db.exec('commit');
  };
  try {
    const one = await rateOf(1, ms, put);
    const many = await rateOf(WRITERS, ms, put);
    const grouped = await rateOf(WRITERS, ms, gathering(inTransaction));
    const batches = await rateOf(1, ms, () => inTransaction(BATCH));
    const { version } = db.prepare('select sqlite_version() as version').get() as { version: string };
    return {
      name: driver,
      version: `SQLite ${version}`,
      how: 'WAL, synchronous FULL',
      commitsPerSecond: { 1: one, 64: many },
      groupedCommitsPerSecond: grouped,
      batchChangesPerSecond: batches * BATCH,
    };
  } finally {
    db.close();
  }
};

/** Group commit by hand: all who ask in one turn of the event loop are committed in one transaction. */
const gathering = (commit: (count: number) => void): (() => Promise<void>) => {
  let waiting: (() => void)[] = [];
  return () =>
    new Promise((resolve) => {
      if (waiting.push(resolve) > 1) return;
      setImmediate(() => {
        const group = waiting;
        waiting = [];
        commit(group.length);
        for (const done of group) done();
      });
    });
};
