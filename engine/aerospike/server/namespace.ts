import type { EngineCore } from '../../engine-core.ts';
import { WORDS_PER_PARTITION } from '../../page.ts';
import { PARTITIONS } from '../../partition.ts';
import { isGone } from './record-view.ts';

/** Counters of one namespace, by the names that `namespace/NAME` has for them. */
export type Counter =
  | 'client_read_success'
  | 'client_read_not_found'
  | 'client_read_filtered_out'
  | 'client_read_error'
  | 'client_write_success'
  | 'client_write_filtered_out'
  | 'client_write_error'
  | 'client_delete_success'
  | 'client_delete_not_found'
  | 'client_delete_filtered_out'
  | 'client_delete_error'
  | 'batch_sub_read_success'
  | 'batch_sub_read_not_found'
  | 'batch_sub_read_filtered_out'
  | 'batch_sub_read_error'
  | 'batch_sub_write_success'
  | 'batch_sub_write_filtered_out'
  | 'batch_sub_write_error'
  | 'batch_sub_delete_success'
  | 'batch_sub_delete_not_found'
  | 'batch_sub_delete_filtered_out'
  | 'batch_sub_delete_error'
  | 'deleted_last_bin'
  | 'pi_query_long_basic_complete'
  | 'pi_query_long_basic_abort'
  | 'pi_query_long_basic_error';

export interface NamespaceSettings {
  readonly name: string;
  /** Seconds that a record lives when its writer says nothing; 0: for ever. */
  readonly defaultTtlS: number;
  /** Bytes of a record's image beyond which it is too big (code 13). */
  readonly recordBytesMax: number;
}

/** One namespace as it is served: its settings, counters, and how many records its sets have. */
export class Namespace {
  readonly name: string;
  readonly nameBytes: Buffer;
  readonly settings: NamespaceSettings;
  readonly counters = new Map<Counter, number>();
  /** Records by set, once somebody has asked. */
  #sets: Map<string, number> | undefined;
  /** Sets that there were: they stay in the list. */
  readonly #names = new Set<string>();
  /** Changes so far: a count during which there was one is not kept. */
  #changes = 0;

  constructor(settings: NamespaceSettings) {
    this.settings = settings;
    this.name = settings.name;
    this.nameBytes = Buffer.from(settings.name);
  }

  count(counter: Counter): void {
    this.counters.set(counter, (this.counters.get(counter) ?? 0) + 1);
  }

  /** Other than before whenever records came or went. */
  get changes(): number {
    return this.#changes;
  }

  /** A record came into being, or went. */
  countRecord(set: string, change: 1 | -1): void {
    this.#changes++;
    if (change > 0 && this.#names.size < SETS_MAX) this.#names.add(set);
    if (this.#sets) this.#sets.set(set, (this.#sets.get(set) ?? 0) + change);
  }

  /** After a truncation: counted anew when somebody asks. */
  forgetSets(): void {
    this.#changes++;
    for (const set of this.#sets?.keys() ?? []) this.#names.add(set);
    this.#sets = undefined;
  }

  /**
   * Records by set. The first time they are counted, which reads all of the namespace; from then on writers keep the account. Sets that
   * became empty stay, as on the server.
   */
  async sets(engine: EngineCore, nowMs: number): Promise<ReadonlyMap<string, number>> {
    if (this.#sets) return this.#sets;
    const changes = this.#changes;
    await engine.settled();
    const counted = new Map<string, number>();
    for (let partition = 0; partition < PARTITIONS; partition += PARTITIONS_AT_ONCE) {
      const from = partition * WORDS_PER_PARTITION;
      engine.slice(
        this.name,
        from,
        from + PARTITIONS_AT_ONCE * WORDS_PER_PARTITION,
        (_, __, bytes, start) => {
          if (isGone(bytes, start, nowMs)) return true;
          const set = bytes.toString('utf8', start + 25, start + 25 + bytes[start + 24]);
          counted.set(set, (counted.get(set) ?? 0) + 1);
          return true;
        },
      );
      await new Promise(setImmediate);
    }
    for (const set of this.#names) if (!counted.has(set)) counted.set(set, 0);
    if (changes === this.#changes) this.#sets = counted;
    return counted;
  }
}

/** As many as a namespace may have. */
const SETS_MAX = 4095;
/** Read between two turns of the event loop. */
const PARTITIONS_AT_ONCE = 64;
