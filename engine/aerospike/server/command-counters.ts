import { Info2 } from '../bits.ts';
import type { MessageView } from '../message.ts';
import { ResultCode } from '../result-code.ts';
import type { Counter } from './namespace.ts';

type Verb = 'read' | 'write' | 'delete';
type Outcome = 'success' | 'not_found' | 'filtered_out' | 'error';

/** The counter that a command's result raises. A write of what is missing is an error, as the server counts it. */
export const counterOf = (m: MessageView, result: number, isBatch: boolean): Counter => {
  const verb: Verb = m.info2 & Info2.write ? (m.info2 & Info2.delete ? 'delete' : 'write') : 'read';
  const outcome = outcomeOf(result);
  if (verb === 'write')
    return COUNTERS[isBatch ? 'batch_sub' : 'client'].write[outcome === 'not_found' ? 'error' : outcome];
  return COUNTERS[isBatch ? 'batch_sub' : 'client'][verb][outcome];
};

const outcomeOf = (result: number): Outcome => {
  if (result === ResultCode.ok) return 'success';
  if (result === ResultCode.notFound) return 'not_found';
  return result === ResultCode.filteredOut ? 'filtered_out' : 'error';
};

const countersOf = <P extends 'client' | 'batch_sub'>(prefix: P) =>
  ({
    read: {
      success: `${prefix}_read_success`,
      not_found: `${prefix}_read_not_found`,
      filtered_out: `${prefix}_read_filtered_out`,
      error: `${prefix}_read_error`,
    },
    write: {
      success: `${prefix}_write_success`,
      filtered_out: `${prefix}_write_filtered_out`,
      error: `${prefix}_write_error`,
    },
    delete: {
      success: `${prefix}_delete_success`,
      not_found: `${prefix}_delete_not_found`,
      filtered_out: `${prefix}_delete_filtered_out`,
      error: `${prefix}_delete_error`,
    },
  }) as const;

const COUNTERS = { client: countersOf('client'), batch_sub: countersOf('batch_sub') };
