/**
 * An engine's store as LMDB keeps its promises: a transaction is there as a whole or not at all, visible at once, durable after a
 * flush; a power cut takes any number of the newest transactions.
 */
import type { RecordStore } from '../../engine/machine.ts';
import { splitStateKey } from '../../engine/state-record.ts';
import type { StoreChange, StoreMeta, TakeRow } from '../../engine/store.ts';
import type { Rng } from '../model/rng.ts';
import type { Process } from './scheduler.ts';

interface Transaction {
  readonly changes: readonly StoreChange[];
  readonly meta: StoreMeta | undefined;
}

interface Content {
  readonly records: Map<string, Buffer>;
  meta: StoreMeta | undefined;
}

/** What the machine keeps of a store. */
export interface StoreImage {
  readonly now: Content;
  readonly durable: Content;
  /** Applied and not flushed. */
  unflushed: Transaction[];
}

const emptyContent = (): Content => ({ records: new Map(), meta: undefined });

export const emptyStore = (): StoreImage => ({ now: emptyContent(), durable: emptyContent(), unflushed: [] });

const applyTo = (content: Content, { changes, meta }: Transaction): void => {
  for (const { key, value } of changes) {
    if (value) content.records.set(key.toString('latin1'), Buffer.from(value));
    else content.records.delete(key.toString('latin1'));
  }
  if (meta) content.meta = structuredClone(meta);
};

export const storeAfterPowerCut = ({ durable, unflushed }: StoreImage, rng: Rng): StoreImage => {
  for (const t of unflushed.slice(0, rng.int(0, unflushed.length))) applyTo(durable, t);
  return {
    now: { records: new Map(durable.records), meta: durable.meta },
    durable,
    unflushed: [],
  };
};

const namespaceOf = (key: Buffer): string => splitStateKey(key).namespace;

/** A process's handle of a store. */
export class SimStore implements RecordStore {
  readonly dir: string;
  readonly #process: Pick<Process, 'call'>;
  readonly #image: StoreImage;

  readonly #flushLies: boolean;

  constructor(dir: string, process: Pick<Process, 'call'>, image: StoreImage, flushLies: boolean) {
    this.dir = dir;
    this.#flushLies = flushLies;
    this.#process = process;
    this.#image = image;
  }

  meta(): StoreMeta | undefined {
    return structuredClone(this.#image.now.meta);
  }

  get(key: Buffer): Buffer | undefined {
    const value = this.#image.now.records.get(key.toString('latin1'));
    return value && Buffer.from(value);
  }

  peek(key: Buffer): Buffer | undefined {
    return this.get(key);
  }

  /** Few, so that what waits is applied in several transactions. */
  get changesMax(): number {
    return 50;
  }

  apply(changes: readonly StoreChange[], meta: StoreMeta): Promise<void> {
    return this.#process.call(
      `apply ${changes.length} up to ${meta.appliedLsn}`,
      () => this.applySync(changes, meta),
      { faults: ['before', 'after'] },
    );
  }

  applySync(changes: readonly StoreChange[], meta: StoreMeta | undefined): void {
    const transaction = { changes: [...changes], meta: structuredClone(meta) };
    applyTo(this.#image.now, transaction);
    this.#image.unflushed.push(transaction);
  }

  flushed(): Promise<void> {
    return this.#process.call(
      'flush',
      () => {
        if (this.#flushLies) return;
        for (const t of this.#image.unflushed) applyTo(this.#image.durable, t);
        this.#image.unflushed = [];
      },
      { faults: ['before'] },
    );
  }

  *scan(
    namespace?: string,
    range: { start: number; end: number } = { start: 0, end: 4096 },
  ): Generator<{ key: Buffer; value: Buffer }> {
    const rows = [...this.#image.now.records]
      .map(([key, value]) => ({ key: Buffer.from(key, 'latin1'), value: Buffer.from(value) }))
      .sort((a, b) => Buffer.compare(a.key, b.key));
    for (const row of rows) {
      if (namespace !== undefined && namespaceOf(row.key) !== namespace) continue;
      const partition = splitStateKey(row.key).sortKey.readUInt16BE(0) >>> 4;
      if (namespace === undefined || (partition >= range.start && partition < range.end)) yield row;
    }
  }

  slice(namespace: string, from: number, to: number, take: TakeRow): void {
    for (const { key, value } of this.scan(namespace)) {
      const keyAt = key.length - 20;
      const word = key.readUInt32BE(keyAt);
      if (word >= from && word < to && !take(key, keyAt, value, 0, value.length)) return;
    }
  }

  namespaces(): string[] {
    return [
      ...new Set([...this.#image.now.records.keys()].map((k) => namespaceOf(Buffer.from(k, 'latin1')))),
    ].sort();
  }

  close(): Promise<void> {
    return this.#process.call('close store', () => undefined);
  }
}
