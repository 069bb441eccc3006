import { isPitrError, type PitrError } from '../engine/errors.ts';
import { type Leftover, pagesOf } from '../engine/object-store.ts';
import type { Archive } from '../wal/archive.ts';
import { type Place, placeOfFolder } from '../wal/layout.ts';
import { NamedObjects, type Scope } from './named-objects.ts';

/**
 * `segment` of a stream's log · `snapshot` a manifest, a note or a segment of one · `begun` a snapshot that is not finished ·
 * `probe` of `pitr doctor` · `foreign` no name of ours: never deleted; and what a store itself can have left.
 */
export type OrphanClass = 'segment' | 'snapshot' | 'begun' | 'probe' | 'foreign' | Leftover['kind'];

/** Something in an archive's store that nothing names. */
export interface Orphan {
  readonly class: OrphanClass;
  /** An object's name, or an id with a colon in it. */
  readonly key: string;
  /** For people. */
  readonly name: string;
  /** Null: the store does not say. */
  readonly bytes: number | null;
  /** Whose agents look after it. Null: those of every timeline, or nobody's. */
  readonly timeline: string | null;
  /** Whose agent alone looks after it. */
  readonly stream: string | null;
  /** Of what is begun: changes while somebody works on it. */
  readonly mark?: string;
  readonly leftover?: Leftover;
}

export interface OrphanScan {
  /** Unfinished uploads and the like could not be looked at. */
  readonly denied: PitrError | undefined;
}

/**
 * Goes through a store, and tells of everything that nothing names: of the whole archive, or of what the agent of one stream
 * looks after. A listing is only what there may be to delete; what exists is what is named, so a listing that fails ends it,
 * and one that lacks something only leaves that for later. Memory is bounded by the catalog, not by the store.
 *
 * What is being written has no name yet and is told of as well: who acts on it waits, and looks again.
 */
export const scanOrphans = async (
  archive: Archive,
  scope: Scope | undefined,
  take: (orphan: Orphan) => void,
): Promise<OrphanScan> => {
  const named = await NamedObjects.read(archive, scope);
  const progress = new Map(named.begun.map((b) => [b.id, { objects: 0, bytes: 0 }]));
  for (const prefix of prefixesOf(scope))
    for await (const page of pagesOf(archive.store, prefix))
      for (const { name, bytes } of page) {
        const place = named.placeOf(name);
        const begun = place.kind === 'snapshot' ? progress.get(place.id) : undefined;
        if (begun) {
          begun.objects++;
          begun.bytes += bytes;
        } else if (isIn(scope, place) && !(await named.has(name)))
          take({ class: classOf(place), key: name, name, bytes, ...ownersOf(place) });
      }
  for (const b of named.begun) {
    if (b.state !== 'working' || (scope && b.timeline !== scope.timeline)) continue;
    const { objects = 0, bytes = 0 } = progress.get(b.id) ?? {};
    const { id, timeline, attempts = 1 } = b;
    const mark = `${attempts}/${objects}/${bytes}`;
    take({ class: 'begun', key: `begun:${id}`, name: id, bytes, timeline, stream: null, mark });
  }
  return { denied: await scanLeftovers(archive, scope, named, take) };
};

const prefixesOf = (scope: Scope | undefined): string[] =>
  scope ? [...['segments', 'manifests', 'begun'].map((top) => `${top}/${scope.timeline}/`), 'doctor/'] : [''];

const classOf = ({ kind }: Place): OrphanClass => (kind === 'control' ? 'foreign' : kind);

const ownersOf = (place: Place): Pick<Orphan, 'timeline' | 'stream'> => ({
  timeline: 'timeline' in place ? place.timeline : null,
  stream: place.kind === 'segment' ? place.stream : null,
});

const isIn = (scope: Scope | undefined, place: Place): boolean => {
  if (!scope) return true;
  switch (place.kind) {
    case 'segment':
      return place.timeline === scope.timeline && place.stream === scope.stream;
    case 'snapshot':
      return place.timeline === scope.timeline;
    case 'probe':
      return true;
    case 'control':
    case 'foreign':
      return false;
    default:
      return place satisfies never;
  }
};

/** Returns why they could not be listed, when it is a matter of rights or of what the provider can do. */
const scanLeftovers = async (
  archive: Archive,
  scope: Scope | undefined,
  named: NamedObjects,
  take: (orphan: Orphan) => void,
): Promise<PitrError | undefined> => {
  try {
    for await (const page of archive.store.leftovers?.list() ?? [])
      for (const leftover of page) {
        const orphan = orphanOf(leftover, scope, named);
        if (orphan) take(orphan);
      }
    return undefined;
  } catch (error) {
    if (isPitrError(error, 'archive-denied') || isPitrError(error, 'archive-refused')) return error;
    throw error;
  }
};

const orphanOf = (leftover: Leftover, scope: Scope | undefined, named: NamedObjects): Orphan | undefined => {
  const { kind, id, name, bytes = null } = leftover;
  const base = { class: kind, key: `${kind}:${id}`, name: id, bytes, leftover };
  const anybodys = { ...base, timeline: null, stream: null };
  switch (kind) {
    case 'temporary':
      return anybodys;
    case 'folder': {
      const place = placeOfFolder(id);
      if (place === undefined) return undefined;
      if (place === 'doctor') return anybodys;
      const isOurs = !scope || place.timeline === scope.timeline;
      // somebody makes it
      if (named.begun.some((b) => b.id === place.id)) return undefined;
      return isOurs ? { ...anybodys, timeline: place.timeline } : undefined;
    }
    case 'value': {
      const [, timeline, stream] = (name ?? '').split('/');
      if (stream === undefined) return anybodys;
      const isOurs = !scope || (timeline === scope.timeline && stream === scope.stream);
      return isOurs && timeline !== undefined ? { ...base, timeline, stream } : undefined;
    }
    case 'upload': {
      const place = named.placeOf(name ?? '');
      // somebody makes it
      if (named.begunOf(place)) return undefined;
      return isIn(scope, place) ? { ...base, ...ownersOf(place) } : undefined;
    }
    default:
      return kind satisfies never;
  }
};
