import { PartitionSet } from '../../engine/partition.ts';
import type { ArchiveView } from '../../snapshot/view.ts';
import type { Archive } from '../../wal/archive.ts';
import { ownersAt, timelineOf } from '../../wal/timeline.ts';
import type { RestorePlan } from '../plan.ts';
import { renamed, type Selection } from '../selection.ts';
import type { Scope } from './cluster-job.ts';

/** A set of the archive that a restore takes, under the name that it gets. */
export interface ArchivedSet {
  readonly namespace: string;
  readonly set: string;
  /** Versions of its records in the segments that are merged, deletions not counted: no less than the records that come of it. */
  readonly versions: number;
  readonly bytes: number;
}

/** What the plan's segments say that they hold, after filters and renames. Reads their headers, which planning has opened mostly. */
export const archivedSets = async (
  archive: Archive,
  { state, selection }: RestorePlan,
): Promise<ArchivedSet[]> => {
  const readers = await Promise.all(state.runs.flatMap((r) => r.segments.map((ref) => archive.reader(ref))));
  const sets = new Map<string, ArchivedSet>();
  for (const { properties } of readers)
    for (const c of properties.counts) {
      if (!isWanted(selection, c.namespace, c.set)) continue;
      const namespace = renamed(selection.renameNamespaces, c.namespace);
      const set = renamed(selection.renameSets, c.set);
      const id = `${namespace}\0${set}`;
      const known = sets.get(id) ?? { namespace, set, versions: 0, bytes: 0 };
      const versions = known.versions + c.versions - c.deletes;
      sets.set(id, { ...known, versions, bytes: known.bytes + c.imageBytes });
    }
  return [...sets.values()].sort((a, b) => order(a.namespace, b.namespace) || order(a.set, b.set));
};

/**
 * Every set that the history has ever had a version of, also after the instant, as `namespace/set` under the names that they get: what it does
 * not name was never archived.
 */
export const knownSets = async (
  archive: Archive,
  { heads }: ArchiveView,
  { state, selection }: RestorePlan,
): Promise<Set<string>> => {
  const runs = [...heads.values()].flatMap((streams) => [...streams.values()].flatMap((head) => head.runs));
  const refs = [...runs, ...state.runs].flatMap((run) => run.segments);
  const known = new Set<string>();
  for (const { properties } of await Promise.all(refs.map((ref) => archive.reader(ref))))
    for (const { namespace, set } of properties.counts)
      known.add(`${renamed(selection.renameNamespaces, namespace)}/${set}`);
  return known;
};

/** Names of sets under which records of several sets of one namespace would come, where those with the same key meet. */
export const mergedSets = async (
  archive: Archive,
  { state, selection }: RestorePlan,
): Promise<readonly string[]> => {
  const sources = new Map<string, Set<string>>();
  const readers = await Promise.all(state.runs.flatMap((r) => r.segments.map((ref) => archive.reader(ref))));
  for (const { properties } of readers)
    for (const { namespace, set, versions, deletes } of properties.counts) {
      if (versions === deletes || !isWanted(selection, namespace, set)) continue;
      const name = renamed(selection.renameSets, set);
      sources.set(name, (sources.get(name) ?? new Set()).add(set));
    }
  return [...sources].filter(([, from]) => from.size > 1).map(([name]) => name);
};

/** Partitions in question, and those of them that a stream of the history had at the instant: of the others nothing is known. */
export const archivedPartitions = (
  { timelines }: ArchiveView,
  { timeline, target, selection }: RestorePlan,
): { readonly wanted: PartitionSet; readonly archived: PartitionSet } => {
  const wanted = PartitionSet.parse(selection.partitions ?? 'all');
  const history = timelineOf(timelines, timeline);
  // a captured cluster's clock may be behind the one that the first stream began by
  const began = Math.min(...history.ownership.map((o) => o.fromTs));
  const owners = ownersAt(history, Math.max(target.ts, began));
  const owned = PartitionSet.ofMask(Uint8Array.from(owners, (stream) => (stream === undefined ? 0 : 1)));
  return { wanted, archived: wanted.intersect(owned) };
};

const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const isWanted = ({ namespaces, sets }: Selection, namespace: string, set: string): boolean =>
  (namespaces?.includes(namespace) ?? true) && (sets?.includes(set) ?? true);

/**
 * What of the target is in question: the namespaces that are named, else those that the archive has; their sets that are named, else all.
 * A namespace that nobody named, that has nothing to restore and that the target lacks, is none.
 */
export const scopesOf = async (
  archive: Archive,
  { state, selection }: RestorePlan,
  archived: readonly ArchivedSet[],
  targetHas: (namespace: string) => boolean,
): Promise<Scope[]> => {
  const { namespaces, sets, renameNamespaces, renameSets } = selection;
  const readers = await Promise.all(state.runs.flatMap((r) => r.segments.map((ref) => archive.reader(ref))));
  const all = namespaces ?? [...new Set(readers.flatMap((r) => r.properties.namespaces))].sort();
  const wanted = sets?.map((s) => renamed(renameSets, s));
  return [...new Set(all.map((n) => renamed(renameNamespaces, n)))]
    .filter((n) => namespaces || targetHas(n) || archived.some((s) => s.namespace === n))
    .map((namespace) => ({ namespace, sets: wanted }));
};
