import { MISSED_UNKNOWN } from '../engine/commit-log.ts';
import { decodeImage } from '../engine/image.ts';
import { digestOfSortKey } from '../engine/partition.ts';
import { toJson } from '../engine/value.ts';
import type { Doubt, InexactRecord } from '../wal/exactness.ts';

/** One record that is inexact at the target, for a program. */
export const inexactData = ({ namespace, set, sortKey, image, doubts }: InexactRecord) => {
  const key = image && decodeImage(image).key;
  return {
    namespace,
    set,
    digest: digestOfSortKey(sortKey).toString('hex'),
    ...(key ? { key: toJson(key) } : {}),
    reasons: doubts.map(doubtData),
  };
};

export type InexactData = ReturnType<typeof inexactData>;

const doubtData = ({ by, ts, missed, missedAfterMs, window }: Doubt) => ({
  by,
  at: iso(ts),
  /** Null: at least one. */
  ...(missed > 0 ? { missed: missed === MISSED_UNKNOWN ? null : missed } : {}),
  /** They came later than that. Absent: nobody knows since when. */
  ...(missedAfterMs === undefined ? {} : { missedAfter: iso(missedAfterMs) }),
  ...(window ? { window: { after: iso(window.startMs), until: iso(window.endMs) } } : {}),
});

const iso = (ms: number): string => new Date(ms).toISOString();

/** The same as a line of JSON. */
export const inexactLine = (record: InexactRecord): string => JSON.stringify(inexactData(record));
