import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isolated } from '../../cli/bench/isolate.ts';
import { levelJob } from './level.ts';
import type { Peer } from './peer.ts';
import { type PostgresOptions, postgres } from './postgres.ts';
import { sqliteJob } from './sqlite.ts';

/** Every database that is at hand, each in processes of its own; the others say why they are not. */
export const peersOf = async (options: PostgresOptions): Promise<Peer[]> => {
  const { dir, ms } = options;
  const peers: Peer[] = [];
  try {
    for (const driver of ['better-sqlite3', 'node:sqlite'])
      peers.push(
        (await isolated<Peer>(sqliteJob, { dir: join(dir, driver.replace(':', '-')), ms, driver })).value,
      );
    peers.push((await isolated<Peer>(levelJob, { dir: join(dir, 'level'), ms })).value);
    // one that is installed but does not run is no reason to throw the other figures away
    peers.push(
      await postgres({ ...options, dir: join(dir, 'postgres') }).catch((error: Error) => ({
        name: 'PostgreSQL + pgBackRest',
        absent: error.message,
      })),
    );
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  return peers;
};
