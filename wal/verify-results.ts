import { isPitrError } from '../engine/errors.ts';
import type { Archive } from './archive.ts';
import { VERIFY_HISTORY_MAX } from './schema.ts';

/** What the last verifications of an archive found: one swapped object. */
const RESULTS_OBJECT = 'verify/results';

/** What one run of `pitr verify` found. */
export interface VerifyResult {
  /** When it ended, by the clock of the machine that read. */
  readonly atMs: number;
  readonly durationMs: number;
  /** Nothing harmful was found. */
  readonly ok: boolean;
  /** Release of pitr that read. */
  readonly version: string;
  readonly segments: number;
  readonly bytes: number;
  readonly versions: number;
  readonly snapshots: number;
  /** Timelines whose merged state was compared with what the source stated. */
  readonly states: { readonly equal: number; readonly differs: number; readonly notChecked: number };
  /** How many of each class; classes without any are not in it. None of them: `ok`. */
  readonly anomalies: Readonly<Record<string, number>>;
  /** What is no damage: gaps that the catalog states, orphans when it was asked for them. */
  readonly harmless: Readonly<Record<string, number>>;
}

export interface VerifyResults {
  readonly archive: string;
  /** Stays when the history has moved on. */
  readonly newestGood: VerifyResult | null;
  /** In the order in which they were written, the newest last: clocks of several machines do not decide what is newest. */
  readonly history: readonly VerifyResult[];
}

/** Without any verification so far: no history. @throws object-corrupt */
export const readVerifyResults = async (archive: Archive): Promise<VerifyResults> =>
  (await archive.readDocument<VerifyResults>('verify-results', RESULTS_OBJECT))?.value ?? {
    archive: archive.id,
    newestGood: null,
    history: [],
  };

/**
 * Adds a result; the oldest beyond the bound go. What cannot be read any more is replaced: it was evidence, and newer is here.
 * @throws what a store refuses with
 */
export const recordVerifyResult = async (archive: Archive, result: VerifyResult): Promise<void> => {
  const next = (before: VerifyResults | undefined): VerifyResults => ({
    archive: archive.id,
    newestGood: result.ok ? result : (before?.newestGood ?? null),
    history: [...(before?.history ?? []), result].slice(-VERIFY_HISTORY_MAX),
  });
  try {
    await archive.updateDocument<VerifyResults>('verify-results', RESULTS_OBJECT, next);
  } catch (error) {
    if (!isPitrError(error, 'object-corrupt')) throw error;
    const damaged = await archive.store.readSwap(RESULTS_OBJECT);
    await archive.swapDocument('verify-results', RESULTS_OBJECT, damaged?.tag, next(undefined));
  }
};
