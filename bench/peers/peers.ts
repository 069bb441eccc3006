import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isolated } from '../../cli/bench/isolate.ts';
import { levelJob } from './level.ts';
import type { Peer } from './peer.ts';
import { type PostgresOptions, postgres } from './postgres.ts';
import { sqliteJob } from './sqlite.ts';

/** Restores of a server: the whole benchmark has to end within minutes. */
const SERVER_RUNS = 1;

/** `libraries`: those that run in a process of ours, which takes seconds; `all`: servers too. */
export const PEERS = ['all', 'libraries', 'none'] as const;
export type PeersWanted = (typeof PEERS)[number];

/** Every database that is wanted and at hand, each in processes of its own; the others say why they are not. */
export const peersOf = async (wanted: PeersWanted, options: PostgresOptions): Promise<Peer[]> => {
  if (wanted === 'none') return [];
  const { dir, ms } = options;
  const peers: Peer[] = [];
  try {
    for (const driver of ['better-sqlite3', 'node:sqlite'])
      peers.push(
        (await isolated<Peer>(sqliteJob, { dir: join(dir, driver.replace(':', '-')), ms, driver })).value,
      );
    peers.push((await isolated<Peer>(levelJob, { dir: join(dir, 'level'), ms })).value);
    if (wanted === 'libraries') return peers;
    // one that is installed but does not run is no reason to throw the other figures away
    peers.push(
      await postgres({ ...options, runs: SERVER_RUNS, dir: join(dir, 'postgres') }).catch((error: Error) => ({
        name: 'PostgreSQL + pgBackRest',
        absent: error.message,
      })),
    );
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  return peers;
};
