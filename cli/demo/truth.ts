import { appendFileSync, readFileSync } from 'node:fs';

/** One acknowledged change as a writer noted it down, in a file of its own that pitr knows nothing about. */
export interface Noted {
  /** Commit time that the engine returned, ms. */
  readonly ts: number;
  readonly id: number;
  /** The whole record as the writer meant it; null: deleted. */
  readonly record: Readonly<Record<string, unknown>> | null;
}

export const note = (file: string, lines: readonly Noted[]): void =>
  appendFileSync(file, lines.map((l) => `${JSON.stringify(l)}\n`).join(''));

/** A plain map: the records at instant `ts`, from the writers' notes alone. */
export const truthAt = (
  files: readonly string[],
  ts: number,
): Map<number, Readonly<Record<string, unknown>>> => {
  const changes: Noted[] = [];
  for (const file of files)
    for (const line of readFileSync(file, 'utf8').split('\n')) if (line) changes.push(JSON.parse(line));
  // the sort is stable, and one city is written by one writer at a time: notes of one file stay in order
  changes.sort((a, b) => a.ts - b.ts);
  const truth = new Map<number, Readonly<Record<string, unknown>>>();
  for (const { ts: at, id, record } of changes) {
    if (at > ts) break;
    if (record) truth.set(id, record);
    else truth.delete(id);
  }
  return truth;
};
