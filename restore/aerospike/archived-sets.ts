import type { Archive } from '../../wal/archive.ts';
import type { RestorePlan } from '../plan.ts';
import type { Selection } from '../selection.ts';
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
      const namespace = selection.renameNamespaces?.[c.namespace] ?? c.namespace;
      const set = selection.renameSets?.[c.set] ?? c.set;
      const id = `${namespace}\0${set}`;
      const known = sets.get(id) ?? { namespace, set, versions: 0, bytes: 0 };
      const versions = known.versions + c.versions - c.deletes;
      sets.set(id, { ...known, versions, bytes: known.bytes + c.imageBytes });
    }
  return [...sets.values()].sort((a, b) => order(a.namespace, b.namespace) || order(a.set, b.set));
};

const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const isWanted = ({ namespaces, sets }: Selection, namespace: string, set: string): boolean =>
  (namespaces?.includes(namespace) ?? true) && (sets?.includes(set) ?? true);

/** What of the target is in question: the namespaces that are named, else those of the archive; their sets that are named, else all. */
export const scopesOf = (
  { namespaces, sets, renameNamespaces, renameSets }: Selection,
  archived: readonly ArchivedSet[],
): Scope[] => {
  const names = namespaces
    ? namespaces.map((n) => renameNamespaces?.[n] ?? n)
    : archived.map((s) => s.namespace);
  const wanted = sets?.map((s) => renameSets?.[s] ?? s);
  return [...new Set(names)].map((namespace) => ({ namespace, sets: wanted }));
};
