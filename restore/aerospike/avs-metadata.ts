/**
 * What can be told of the metadata of Aerospike Vector Search, whose layout is not public: a record describes an index when "index" is in the
 * name of its set or of a bin. Its name is its stored key, else the text of a bin whose name has "name" in it.
 */

const INDEX = /index/i;
const NAME = /name/i;
/** Texts of one record that are looked at. */
const TEXTS_MAX = 1000;

interface MetadataRecord {
  readonly set: string;
  readonly key?: unknown;
  readonly bins: Readonly<Record<string, unknown>>;
}

/**
 * Names of indexes that have no records: no set of `there` is named like the index, which is the default, nor by any text of its
 * record. `lines`: records as JSON (restore/json-line.ts).
 */
export const missingIndexes = (lines: readonly string[], there: ReadonlySet<string>): string[] => {
  const missing = new Set<string>();
  for (const line of lines) {
    const record = JSON.parse(line) as MetadataRecord;
    if (!INDEX.test(record.set) && !Object.keys(record.bins).some((bin) => INDEX.test(bin))) continue;
    const name = nameOf(record);
    if (name === undefined) continue;
    const texts = textsIn([name, record.bins]);
    if (!texts.some((text) => there.has(text))) missing.add(name);
  }
  return [...missing].sort();
};

const nameOf = ({ key, bins }: MetadataRecord): string | undefined => {
  if (typeof key === 'string' && key !== '') return key;
  const found = Object.entries(bins).find(([bin, value]) => NAME.test(bin) && typeof value === 'string');
  return found?.[1] as string | undefined;
};

/** Every text in a value, also in lists and maps. */
const textsIn = (value: unknown): string[] => {
  const texts: string[] = [];
  const waiting: unknown[] = [value];
  while (waiting.length > 0 && texts.length < TEXTS_MAX) {
    const next = waiting.pop();
    if (typeof next === 'string') {
      if (next !== '') texts.push(next);
    } else if (typeof next === 'object' && next !== null) waiting.push(...Object.values(next));
  }
  return texts;
};
