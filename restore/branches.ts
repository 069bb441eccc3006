import { restorable } from '../snapshot/ranges.ts';
import type { ArchiveView } from '../snapshot/view.ts';
import type { Head } from '../wal/catalog.ts';
import { rootOf, type Timelines } from '../wal/timeline.ts';

/** What is looked for on the timelines of an archive. */
export type Sought =
  | { readonly kind: 'time'; readonly ts: number }
  | { readonly kind: 'mark'; readonly name: string }
  | { readonly kind: 'lsn'; readonly stream: string; readonly lsn: number };

/**
 * Timelines whose own log, after their fork, has what is sought, but for `on`; oldest first. Of marks the newest thousand of a
 * stream are looked at, those that its head names. Reads the heads that the view has not, nothing else.
 */
export const timelinesWith = async (
  view: ArchiveView,
  sought: Sought,
  on: string | undefined,
): Promise<string[]> => {
  const all = view.timelines.timelines;
  if (all.length === 1) return [];
  const heads = new Map(
    await Promise.all(
      all.map(async (t) => [t.id, view.heads.get(t.id) ?? (await view.archive.heads(t))] as const),
    ),
  );
  const has = (id: string): boolean => {
    const own = [...(heads.get(id)?.values() ?? [])];
    switch (sought.kind) {
      case 'time':
        return restorable(view.timelines, id, heads, view.snapshots).ranges.some(
          (r) => r.timeline === id && r.fromTs <= sought.ts && sought.ts <= r.toTs,
        );
      case 'mark':
        return own.some((head) => head.marks.some((m) => m.name === sought.name));
      case 'lsn':
        return own.some((head) => head.stream === sought.stream && hasPosition(head, sought.lsn));
      default:
        return sought satisfies never;
    }
  };
  return all.map((t) => t.id).filter((id) => id !== on && has(id));
};

const hasPosition = (head: Head, lsn: number): boolean =>
  head.runs.some((run) => run.lsnStart <= lsn && lsn < run.lsnEnd);

/** Branches of one history: what was left of it after filters and renames is another one. */
export const sameHistory = (all: Timelines, a: string, b: string): boolean =>
  rootOf(all, a) === rootOf(all, b);

/** The timeline of the view's ancestry whose own log an instant lies in: a fork's past is its parent's. */
export const timelineAt = (view: ArchiveView, ts: number): string =>
  (view.ancestry.find((t) => t.parent === null || ts > t.parent.ts) ?? view.timeline).id;
