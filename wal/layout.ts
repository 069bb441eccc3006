/** What an object of an archive is by its name: the layout of wal/README.md and snapshot/README.md, read backwards. */
export type Place =
  /** Swapped, or the archive's own: never deleted. */
  | { readonly kind: 'control' }
  /** A segment of a stream's log; `generation` of the writer that made it. */
  | {
      readonly kind: 'segment';
      readonly timeline: string;
      readonly stream: string;
      readonly generation: number;
    }
  /** A manifest, a note or a segment of a snapshot. */
  | { readonly kind: 'snapshot'; readonly timeline: string; readonly id: string }
  /** By which somebody looked at the store. */
  | { readonly kind: 'probe' }
  /** Nothing of ours has such a name. */
  | { readonly kind: 'foreign' };

const ID = '\\d{8}-\\d{6}-[0-9a-f]{4}';
const PART = '([^/]+)';
const SEGMENT = 'L\\d+/\\d{15,}-\\d{15,}-g(\\d{1,15})-[0-9a-f]{12}\\.seg';
/** On a directory a swapped object is a folder of numbered values. */
const SWAPPED =
  /^(timelines|snapshots|leases\/held|gaps\/acknowledged|verify\/results|(heads|merges|orphans)\/[^/]+\/[^/]+)(\/\d{12})?$/;
const OF_STREAM = new RegExp(`^segments/${PART}/${PART}/${SEGMENT}$`);
const OF_SNAPSHOT = [
  new RegExp(`^segments/${PART}/snapshots-(${ID})/${SEGMENT}$`),
  new RegExp(`^manifests/${PART}/(${ID})(?:/[0-9a-f]{12})?$`),
  new RegExp(`^begun/${PART}/(${ID})/\\d{4}-\\d{4}$`),
];
const PROBE = /^doctor\/./;

/** `isStream` decides about a folder of segments that could be a stream's or a snapshot's by its name. */
export const placeOf = (name: string, isStream: (timeline: string, folder: string) => boolean): Place => {
  if (name === 'archive' || SWAPPED.test(name)) return { kind: 'control' };
  if (PROBE.test(name)) return { kind: 'probe' };
  const [, timeline = '', stream = '', generation] = OF_STREAM.exec(name) ?? [];
  if (generation !== undefined && isStream(timeline, stream))
    return { kind: 'segment', timeline, stream, generation: Number(generation) };
  for (const pattern of OF_SNAPSHOT) {
    const [, of, id] = pattern.exec(name) ?? [];
    if (of !== undefined && id !== undefined) return { kind: 'snapshot', timeline: of, id };
  }
  if (generation !== undefined) return { kind: 'segment', timeline, stream, generation: Number(generation) };
  return { kind: 'foreign' };
};

const FOLDERS_OF_SNAPSHOT = [
  new RegExp(`^segments/${PART}/snapshots-(${ID})(?:/.*)?$`),
  new RegExp(`^(?:manifests|begun)/${PART}/(${ID})$`),
];

/**
 * Which snapshot's a folder is; `doctor`: that of the probes. All others stay when they are empty: writers rely on that (D5 of
 * engine/directory-store.ts), and one at the top may be where something is mounted.
 */
export const placeOfFolder = (
  folder: string,
): { readonly timeline: string; readonly id: string } | 'doctor' | undefined => {
  if (folder === 'doctor' || PROBE.test(folder)) return 'doctor';
  for (const pattern of FOLDERS_OF_SNAPSHOT) {
    const [, timeline, id] = pattern.exec(folder) ?? [];
    if (timeline !== undefined && id !== undefined) return { timeline, id };
  }
  return undefined;
};
