/** A recorded run: what every moment of it owes to whoever starts after a power cut there. */
import { Rng } from '../model/rng.ts';
import type { MemoryFiles, PowerCut } from '../wal/memory-files.ts';

/** PITR_POWER=n: states tried of each moment. PITR_POWER_SEED=k: their choice. */
export const STATES_MAX = Number(process.env.PITR_POWER ?? 40);
const SEED = Number(process.env.PITR_POWER_SEED ?? 1);

export const powerRng = (what: string): Rng => {
  const seed = SEED + [...what].reduce((n, c) => (Math.imul(n, 31) + c.charCodeAt(0)) | 0, 0);
  console.log(`${what}: PITR_POWER=${STATES_MAX} PITR_POWER_SEED=${SEED}`);
  return new Rng(seed);
};

export interface Moment<T> {
  readonly cut: PowerCut;
  /** What a process finds that starts after a SIGKILL there: nothing is lost, and nothing more is durable. */
  readonly killed: () => MemoryFiles;
  /** What had been acknowledged by then. */
  readonly owed: T;
  /** The operation that came next, for messages. */
  readonly when: string;
}

/** Records every moment before an operation and the one at the end; `owed` is asked at each. */
export const record = async <T>(
  files: MemoryFiles,
  owed: () => T,
  run: () => Promise<unknown>,
): Promise<Moment<T>[]> => {
  const moments: Moment<T>[] = [];
  const note = (when: string): void => {
    const copy = files.afterKill();
    moments.push({ cut: files.cut(), killed: () => copy.afterKill(), owed: owed(), when });
  };
  files.before = (operation, path) => {
    note(`before ${moments.length}: ${operation} ${path}`);
  };
  await run();
  files.before = () => undefined;
  note('at the end');
  return moments;
};
