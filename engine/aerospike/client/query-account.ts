import { PitrError } from '../../errors.ts';
import { parseInfoError } from '../info.ts';

/** What a server says of a query: `query-show:trid=`. */
export interface QueryAccount {
  /** `active(ok)`, `done(ok)`, … */
  readonly status: string;
  readonly succeeded: number;
  /** Records that it left out because it could not read them, or an op of the projection failed. */
  readonly failed: number;
  /** Live records of the set that the filter rejected by their metadata alone. */
  readonly filteredMeta: number;
  /** Those that it rejected by their bins. */
  readonly filteredBins: number;
}

/**
 * A set's name stands in the middle and may hold `:` and `=`, so numbers are looked for from the right.
 * Undefined: the server does not know the query. @throws aerospike-info
 */
export const parseQueryAccount = (value: string, command: string, node: string): QueryAccount | undefined => {
  const error = parseInfoError(value);
  if (error?.code === 2) return undefined;
  const numberOf = (key: string): number => {
    const at = value.lastIndexOf(`:${key}=`);
    const m = /^\d{1,15}/.exec(value.slice(at + key.length + 2));
    if (error || at < 0 || !m)
      throw new PitrError('aerospike-info', { node, command, code: error?.code, text: value.slice(0, 200) });
    return Number(m[0]);
  };
  return {
    status: /:status=([^:]*):job-progress=/.exec(value)?.[1] ?? '',
    succeeded: numberOf('recs-succeeded'),
    failed: numberOf('recs-failed'),
    filteredMeta: numberOf('recs-filtered-meta'),
    filteredBins: numberOf('recs-filtered-bins'),
  };
};
