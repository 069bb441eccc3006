import { isExpired } from './delta.ts';
import type { Scope } from './scope.ts';

/** Rows that one poll lets go of. */
const ROWS_MAX = 50_000;

/** Logs a delete of what has been expired for long: nothing changes at any instant by it (C6). Returns how many. */
export const forgetExpired = async (scope: Scope): Promise<number> => {
  const { journal, settings, state, time } = scope;
  const before = Math.floor((time.ms - settings.forgetExpiredMs) / 1000);
  let forgotten = 0;
  for (const [group, partitions] of state.groups.entries()) {
    if (state.calendar.expiring(group, 0, before) === 0) continue;
    for (const { start, end } of partitions.ranges)
      for (let partition = start; partition < end && forgotten < ROWS_MAX; partition++) {
        const rows = journal.index.partition(state.id, partition);
        for (let i = 0; i < rows.length; i++) {
          if (!isExpired(rows.voidTimeS(i), before)) continue;
          const digest = rows.digest(i);
          // written again meanwhile
          if (!isExpired(journal.row(scope.namespace, digest)?.voidTimeS(0) ?? 0, before)) continue;
          // not before it expired, and no later than must be: what was written since has to come after it
          const when = Math.max(journal.frontierTs + 1, rows.ts(i), (rows.voidTimeS(i) + 1) * 1000);
          scope.gone({ digest, set: journal.setName(rows.set(i)), when });
          forgotten++;
        }
        await scope.gate.breathe();
      }
  }
  return forgotten;
};
