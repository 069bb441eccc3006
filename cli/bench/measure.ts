/** Wall and CPU time of one piece of work; CPU seconds are those of all threads of this process. */
export interface Timed<T> {
  readonly value: T;
  readonly seconds: number;
  readonly cpuSeconds: number;
}

export const timed = async <T>(work: () => Promise<T> | T): Promise<Timed<T>> => {
  const cpu = process.cpuUsage();
  const started = performance.now();
  const value = await work();
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { value, seconds, cpuSeconds: (user + system) / 1e6 };
};

/** The middle one; of an even number the upper of the two. NaN of none. */
export const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;

/** The value below which the share `p` of the numbers lies. */
export const quantile = (numbers: readonly number[], p: number): number =>
  numbers.toSorted((a, b) => a - b)[Math.min(numbers.length - 1, Math.floor(p * numbers.length))] ??
  Number.NaN;

/** Field by field the median of several runs; every field is a number. */
export const medianOf = <T extends { readonly [K in keyof T]: number }>(runs: readonly T[]): T =>
  Object.fromEntries(
    Object.keys(runs[0]).map((field) => [field, median(runs.map((run) => run[field as keyof T]))]),
  ) as T;
