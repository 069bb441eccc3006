import type { EngineCore } from '../../engine-core.ts';
import { digestOfSortKey } from '../../partition.ts';
import { RecordId } from '../../record-key.ts';
import { state } from '../../state-record.ts';
import type { Decider } from '../../write-op.ts';

/** Records that were removed, as they were: what a cold restart of a Community server may bring back from its disk. */
export class Graveyard {
  readonly #records = new Map<string, { readonly id: RecordId; readonly value: Buffer }>();

  /** Keeps a copy of a record that goes. */
  keep(id: RecordId, value: Buffer): void {
    this.#records.set(id.storeKey.toString('latin1'), { id, value: Buffer.from(value) });
  }

  /** Keeps all records of a namespace, or of a set of it, that a truncation is about to take. */
  async keepAll(engine: EngineCore, namespace: string, set: string, beforeMs: number): Promise<void> {
    await engine.settled();
    engine.slice(namespace, 0, 2 ** 32, (key, keyAt, bytes, start, end) => {
      const value = Buffer.from(bytes.subarray(start, end));
      if (state.lut(value) >= beforeMs || (set !== '' && state.set(value) !== set)) return true;
      const digest = digestOfSortKey(key, keyAt);
      this.keep(new RecordId({ namespace, digest }, state.set(value), digest, undefined), value);
      return true;
    });
  }

  /** Brings back what is still absent, with the generation, update and void times that it had. Returns how many. */
  rise(engine: EngineCore): number {
    let risen = 0;
    for (const { id, value } of this.#records.values()) {
      const decider: Decider = {
        decide: (current) => {
          if (current) return 'keep';
          risen++;
          return Buffer.from(value);
        },
        voidTime: state.voidTime(value),
        generation: state.generation(value),
        lut: state.lut(value),
      };
      engine.decide(id, decider);
    }
    this.#records.clear();
    return risen;
  }
}
