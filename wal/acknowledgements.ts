import { PitrError } from '../engine/errors.ts';
import type { Archive } from './archive.ts';
import { ACKNOWLEDGED_MAX, BY_CHARS_MAX, REASON_CHARS_MAX } from './schema.ts';

/** All acknowledgements of an archive: one swapped object. */
const ACKNOWLEDGED_OBJECT = 'gaps/acknowledged';

/** Which gap: exactly this range of this stream. One that has grown is another gap. */
export interface GapPlace {
  readonly timeline: string;
  readonly stream: string;
  readonly lsnStart: number;
  readonly lsnEnd: number;
}

/** Somebody has taken note of a gap, so that alarms about it stop. It changes nothing that can be restored (A12). */
export interface Acknowledgement extends GapPlace {
  /** As the catalog had it then. */
  readonly cause: string;
  /** For people: `user@host`. */
  readonly by: string;
  readonly reason: string;
  readonly atMs: number;
}

interface AcknowledgementTable {
  readonly archive: string;
  readonly gaps: readonly Acknowledgement[];
}

export const isSameGap = (a: GapPlace, b: GapPlace): boolean =>
  a.timeline === b.timeline && a.stream === b.stream && a.lsnStart === b.lsnStart && a.lsnEnd === b.lsnEnd;

/** @throws object-corrupt */
export const readAcknowledged = async (archive: Archive): Promise<readonly Acknowledgement[]> =>
  (await archive.readDocument<AcknowledgementTable>('acknowledgements', ACKNOWLEDGED_OBJECT))?.value.gaps ??
  [];

/** Acknowledges gaps, or replaces what was said of them before. @throws usage when a text is empty or too long */
export const acknowledge = async (
  archive: Archive,
  gaps: readonly (GapPlace & { readonly cause: string })[],
  said: { readonly by: string; readonly reason: string },
): Promise<readonly Acknowledgement[]> => {
  const by = bounded('who acknowledges', said.by, BY_CHARS_MAX);
  const reason = bounded('the reason', said.reason, REASON_CHARS_MAX);
  const atMs = archive.clock.nowMs();
  const added = gaps.map(({ timeline, stream, lsnStart, lsnEnd, cause }) => ({
    timeline,
    stream,
    lsnStart,
    lsnEnd,
    cause,
    by,
    reason,
    atMs,
  }));
  await change(archive, (all) => [...without(all, added), ...added]);
  return added;
};

/** Takes acknowledgements back; returns those that there were. */
export const unacknowledge = async (
  archive: Archive,
  gaps: readonly GapPlace[],
): Promise<readonly Acknowledgement[]> => {
  let removed: readonly Acknowledgement[] = [];
  await change(archive, (all) => {
    const left = without(all, gaps);
    removed = all.filter((a) => !left.includes(a));
    return left;
  });
  return removed;
};

const without = (all: readonly Acknowledgement[], gaps: readonly GapPlace[]): Acknowledgement[] =>
  all.filter((a) => !gaps.some((g) => isSameGap(a, g)));

const change = async (
  archive: Archive,
  to: (gaps: readonly Acknowledgement[]) => readonly Acknowledgement[],
): Promise<void> => {
  await archive.updateDocument<AcknowledgementTable>('acknowledgements', ACKNOWLEDGED_OBJECT, (table) => {
    const gaps = to(table?.gaps ?? []);
    if (gaps.length > ACKNOWLEDGED_MAX)
      throw new PitrError('usage', { what: `more than ${ACKNOWLEDGED_MAX} gaps cannot be acknowledged` });
    return { archive: archive.id, gaps };
  });
};

const bounded = (what: string, given: string, charsMax: number): string => {
  const text = given.trim();
  if (text === '' || text.length > charsMax)
    throw new PitrError('usage', { what: `${what} must have 1 to ${charsMax} characters` });
  return text;
};
