/** What another database does with the same writes, as far as it was measured. Rates per second. */
export interface PeerFigures {
  readonly name: string;
  readonly version: string;
  /** How it was set up, in a few words. */
  readonly how: string;
  /** Durable commits of one record by 1 and 64 writers. */
  readonly commitsPerSecond: Readonly<Record<'1' | '64', number>>;
  /** 64 writers whose commits a program gathers into one transaction by hand: what the library alone does not do. */
  readonly groupedCommitsPerSecond?: number;
  /** Changes in batches of 100, one writer. */
  readonly batchChangesPerSecond: number;
  /** The workload's restore to the instant in the middle. */
  readonly restore?: {
    readonly seconds: number;
    readonly records: number;
    readonly repositoryMB: number;
    readonly loadSeconds: number;
    readonly changeSeconds: number;
  };
}

/** A peer that is not at hand, and why. */
export interface PeerAbsent {
  readonly name: string;
  readonly absent: string;
}

export type Peer = PeerFigures | PeerAbsent;

export interface PeerArgs {
  /** Empty, for the peer alone. */
  readonly dir: string;
  /** How long each rate is measured, ms. */
  readonly ms: number;
}

export const VALUES = 4096;
export const KEYS = 1_000_000;
export const WRITERS = 64;
export const BATCH = 100;

/** Runs `commit` for `ms` by `writers` at the same time, after a warm-up; returns how often it was done in a second. */
export const rateOf = async (
  writers: number,
  ms: number,
  commit: () => Promise<void> | void,
): Promise<number> => {
  const run = async (forMs: number): Promise<number> => {
    let commits = 0;
    const started = performance.now();
    const end = started + forMs;
    const writer = async (): Promise<void> => {
      while (performance.now() < end) {
        await commit();
        commits++;
      }
    };
    await Promise.all(Array.from({ length: writers }, writer));
    return (commits * 1000) / (performance.now() - started);
  };
  await run(Math.min(ms, 300));
  return run(ms);
};
