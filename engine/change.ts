import type { LogVersion } from './commit-log.ts';
import type { Keyed } from './key-table.ts';
import { digestOfSortKey } from './partition.ts';
import type { RecordId } from './record-key.ts';
import { sortKeyStart, state } from './state-record.ts';
import type { StoreChange } from './store.ts';

/**
 * One change of one record on its way: decided, then staged with its LSN. The same object is what the log writes, what the
 * overlay holds until the store has it, and what the store applies.
 */
export class Change implements LogVersion, StoreChange, Keyed {
  readonly namespace: string;
  readonly set: string;
  /** The record's key in the store. */
  readonly key: Buffer;
  readonly hash: number;
  readonly ts: number;
  /** The record afterwards, as the store holds it; undefined: it is gone. */
  readonly value: Buffer | undefined;
  lsn = 0;
  batchMore = false;
  /** The record's newest change before, as long as readers may need it; undefined when the store has that, or nothing. */
  previous: Change | undefined = undefined;

  constructor(id: RecordId, ts: number, value: Buffer | undefined) {
    // not the id itself: it would keep the caller's key and the digest until the store has the change
    this.namespace = id.namespace;
    this.set = id.set;
    this.key = id.storeKey;
    this.hash = id.hash;
    this.ts = ts;
    this.value = value;
  }

  get digest(): Buffer {
    return digestOfSortKey(this.key, sortKeyStart(this.key));
  }

  get generation(): number {
    return this.value ? state.generation(this.value) : 0;
  }

  get voidTime(): number {
    return this.value ? state.voidTime(this.value) : 0;
  }

  get image(): Buffer | undefined {
    return this.value && state.image(this.value);
  }

  /** Bytes that it holds in memory, about. */
  get bytes(): number {
    return CHANGE_BYTES + (this.value?.length ?? 0);
  }
}

/** Objects, key and table slots of one change. */
const CHANGE_BYTES = 300;
