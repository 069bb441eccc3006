/** Set in which Enterprise keeps the monitors of transactions (reference: aerospike-wire.md 10.6). */
const MONITOR_SET = '<ERO~MRT';

/** False: records of this set are counted and never logged. `sets`: those that are captured, null: all. */
export const isLoggedSet = (sets: readonly string[] | null, set: string): boolean =>
  set !== MONITOR_SET && (sets === null || sets.includes(set));
