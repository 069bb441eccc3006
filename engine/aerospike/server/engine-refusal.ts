import type { PitrError } from '../../errors.ts';
import { ResultCode } from '../result-code.ts';

/** What the engine refuses, in the protocol's codes; undefined: a fault of ours. */
export const engineRefusal = (error: PitrError): number | undefined => {
  switch (error.id) {
    case 'partition-not-owned':
      return ResultCode.partitionUnavailable;
    case 'log-full':
    case 'store-full':
    case 'log-quota':
      return ResultCode.outOfSpace;
    case 'engine-closed':
      return ResultCode.timeout;
    default:
      return undefined;
  }
};
