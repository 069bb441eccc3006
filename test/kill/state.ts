/** Reads an open engine into the plain form of the model. */
import type { Engine } from '../../wal/engine.ts';

export const stateOf = async (engine: Engine): Promise<Map<string, string>> => {
  const records = new Map<string, string>();
  for await (const record of engine.scan()) {
    const { key, text } = record.bins;
    records.set(String(key), String(text));
  }
  return records;
};
