import { decodeImage } from '../engine/image.ts';
import { digestOfSortKey } from '../engine/partition.ts';
import type { StateHeader } from '../engine/state-record.ts';
import { toJson } from '../engine/value.ts';

/** One record as a line of JSON: nothing is lost, `bins` as engine/value.ts writes particles. */
export const jsonLine = (
  namespace: string,
  set: string,
  sortKey: Buffer,
  header: StateHeader,
  image: Uint8Array,
): string => {
  const { key, bins } = decodeImage(image);
  return JSON.stringify({
    namespace,
    set,
    digest: digestOfSortKey(sortKey).toString('hex'),
    ...(key ? { key: toJson(key) } : {}),
    generation: header.generation,
    lastUpdate: new Date(header.lut).toISOString(),
    expires: header.voidTime === 0 ? null : new Date(header.voidTime * 1000).toISOString(),
    bins: Object.fromEntries([...bins].map(([name, p]) => [name, toJson(p)])),
  });
};
