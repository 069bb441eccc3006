import { setTimeout as sleep } from 'node:timers/promises';
import type { Archive } from '../wal/archive.ts';
import { NamedObjects } from './named-objects.ts';
import { type OrphanTable, readOrphanTable, SEEN_MAX, type Seen, waitMs } from './orphan-table.ts';
import { type Orphan, type OrphanClass, scanOrphans } from './orphans.ts';

/** An object is written before anything names it: what is still unnamed after this time was left behind. */
const SECOND_LOOK_MS = 2000;

/** Something that nothing names, and what becomes of it. */
export interface OrphanLine {
  readonly class: OrphanClass;
  readonly name: string;
  /** Null: the store does not say. */
  readonly bytes: number | null;
  /** Epoch ms, by the agent that saw it; null: no agent has yet. */
  readonly firstSeenMs: number | null;
  /** When an agent that goes on looking deletes it, epoch ms; null: nobody does, or nobody has seen it yet. */
  readonly sweptAfterMs: number | null;
  /** The stream whose agent does. */
  readonly sweptBy: string | null;
}

export interface OrphanReport {
  /** At most 10,000. */
  readonly lines: readonly OrphanLine[];
  /** So many more are not in the list, nor in the sums. */
  readonly more: number;
  readonly sums: readonly {
    readonly class: OrphanClass;
    readonly objects: number;
    readonly bytes: number;
  }[];
  readonly objects: number;
  readonly bytes: number;
  /** Why unfinished uploads could not be looked at; null: they were. */
  readonly denied: string | null;
}

/** Everything in the store that nothing names, with what the agents' tables say of it. */
export const reportOrphans = async (archive: Archive): Promise<OrphanReport> => {
  const found: Orphan[] = [];
  let more = 0;
  const { denied } = await scanOrphans(archive, undefined, (orphan) => {
    if (found.length < SEEN_MAX) found.push(orphan);
    else more++;
  });
  const orphans = found.length === 0 ? found : await stillUnnamed(archive, found);
  const tables = orphans.length === 0 ? [] : await readTables(archive);
  const lines = orphans.map((orphan): OrphanLine => {
    const { bytes, name } = orphan;
    return { class: orphan.class, name, bytes, ...fateOf(orphan, tables) };
  });
  const sums = [...Map.groupBy(lines, (line) => line.class)].map(([kind, of]) => ({
    class: kind,
    objects: of.length,
    bytes: of.reduce((n, line) => n + (line.bytes ?? 0), 0),
  }));
  return {
    lines,
    more,
    sums,
    objects: lines.length,
    bytes: sums.reduce((n, s) => n + s.bytes, 0),
    denied: denied?.message ?? null,
  };
};

/** Without those that were being written when they were found. */
const stillUnnamed = async (archive: Archive, found: readonly Orphan[]): Promise<Orphan[]> => {
  await sleep(SECOND_LOOK_MS);
  const named = await NamedObjects.read(archive);
  const left: Orphan[] = [];
  for (const orphan of found) {
    const isObject = orphan.leftover === undefined && orphan.class !== 'begun';
    if (!isObject || !(await named.has(orphan.key))) left.push(orphan);
  }
  return left;
};

interface TableOf {
  readonly timeline: string;
  readonly stream: string;
  readonly table: OrphanTable;
  readonly seen: ReadonlyMap<string, Seen>;
}

const readTables = async (archive: Archive): Promise<TableOf[]> => {
  const tables: TableOf[] = [];
  for (const { id: timeline, streams } of (await archive.timelines()).timelines)
    for (const { name: stream } of streams) {
      const table = (await readOrphanTable(archive, timeline, stream))?.value;
      if (table) tables.push({ timeline, stream, table, seen: new Map(table.seen.map((s) => [s.name, s])) });
    }
  return tables;
};

/** What the agent that comes first has seen of it and will do. */
const fateOf = (
  { class: kind, key, timeline, stream }: Orphan,
  tables: readonly TableOf[],
): Pick<OrphanLine, 'firstSeenMs' | 'sweptAfterMs' | 'sweptBy'> => {
  let first: { readonly seenMs: number; readonly afterMs: number; readonly by: string } | undefined;
  for (const of of kind === 'foreign' ? [] : tables) {
    const isTheirs =
      (timeline === null || of.timeline === timeline) && (stream === null || of.stream === stream);
    const seen = isTheirs ? of.seen.get(key) : undefined;
    if (!seen) continue;
    const afterMs = of.table.atMs + Math.max(0, waitMs(of.table) - seen.waitedMs);
    if (!first || afterMs < first.afterMs) first = { seenMs: seen.sinceMs, afterMs, by: of.stream };
  }
  return {
    firstSeenMs: first?.seenMs ?? null,
    sweptAfterMs: first?.afterMs ?? null,
    sweptBy: first?.by ?? null,
  };
};
