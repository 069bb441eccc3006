import { PartitionSet } from '../engine/partition.ts';
import type { TruncateEvent } from './event.ts';
import type { RunCursor } from './run-cursor.ts';

/** A truncation that can be asked about rows. */
export interface Truncation extends TruncateEvent {
  readonly mask: Uint8Array;
}

export const withMask = (e: TruncateEvent): Truncation => ({
  ...e,
  mask: PartitionSet.parse(e.partitions).toMask(),
});

/** Whether it hides the row's version once it counts. */
export const hides = (e: Truncation, { block, row, reader }: RunCursor): boolean => {
  if (e.mask[block.w0[row] >>> 20] === 0 || block.ts(row) >= e.ts || block.lut(row) >= e.cutoffLut)
    return false;
  const { namespaces, sets } = reader.properties;
  return e.namespace === namespaces[block.namespace] && (e.set === null || e.set === sets[block.set[row]]);
};
