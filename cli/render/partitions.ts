import { PARTITIONS, PartitionSet } from '../../engine/partition.ts';
import { formatCount } from './units.ts';

/** `0-1365 (1,366 partitions)`, `all`, `none`: inclusive ranges as pitr reads them back. */
export const describePartitions = (ranges: string): string => {
  const { size } = PartitionSet.parse(ranges);
  if (size === PARTITIONS) return 'all';
  if (size === 0) return 'none';
  return `${PartitionSet.parse(ranges)} (${formatCount(size)} ${size === 1 ? 'partition' : 'partitions'})`;
};

/** The ranges alone, `all` when they are all. */
export const shortPartitions = (ranges: string): string => {
  const set = PartitionSet.parse(ranges);
  return set.size === PARTITIONS ? 'all' : `${set}`;
};
