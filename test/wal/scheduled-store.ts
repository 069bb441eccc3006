/** One agent's way to an object store that others use as well: every call can be stopped, before its effect or after it. */
import type { ObjectStore } from '../../engine/object-store.ts';
import { type Call, lost } from './memory-store.ts';

/** A moment of an agent: its n-th call, from 0, before or after that call's effect. */
export interface Moment {
  readonly call: number;
  readonly when: 'before' | 'after';
}

/** Told of each call directly after its effect; `isDone` false: it failed. `n`: which call of the agent it is, from 0. */
type Watch = (call: Call, names: readonly string[], isDone: boolean, n: number) => void;

export class ScheduledStore implements ObjectStore {
  readonly url: string;
  /** How many calls were made. */
  calls = 0;
  /** Bytes of the answer to the n-th call are damaged. */
  damagedCall: number | undefined;
  /** The n-th call gets no answer; it arrives when {@link deliver} is called, or never. */
  lostCall: number | undefined;
  /** The n-th call has its effect, and no answer. */
  unansweredCall: number | undefined;
  /** So many calls after it fail without effect. */
  downCalls = 0;
  readonly #store: ObjectStore;
  readonly #watch: Watch;
  #moment: Moment | undefined;
  #stopped: (() => void) | undefined;
  #go: (() => void) | undefined;
  #asleep: Promise<void> | undefined;
  #late: (() => Promise<void>) | undefined;

  constructor(store: ObjectStore, watch: Watch = () => undefined) {
    this.url = store.url;
    this.#store = store;
    this.#watch = watch;
  }

  /** Resolves when the agent is held at that moment; nobody must be waiting for an earlier one. */
  stopAt(moment: Moment): Promise<void> {
    this.#moment = moment;
    return new Promise((resolve) => {
      this.#stopped = resolve;
    });
  }

  /** Lets an agent that is held go on, and stops it no more. */
  go(): void {
    this.#moment = undefined;
    this.#asleep = undefined;
    this.#go?.();
  }

  /** What was lost on its way arrives now. */
  async deliver(): Promise<void> {
    const late = this.#late;
    this.#late = undefined;
    await late?.();
  }

  /** What this agent hears may be wrong, or missing, through no fault of its own. */
  get isTroubled(): boolean {
    return [this.damagedCall, this.lostCall, this.unansweredCall].some((n) => n !== undefined);
  }

  create(name: string, bytes: Uint8Array): Promise<void> {
    return this.#run('create', [name], () => this.#store.create(name, bytes));
  }

  read(name: string, range?: { start: number; end?: number }): Promise<Buffer> {
    const isDamaged = this.calls === this.damagedCall;
    return this.#run('read', [name], async () => {
      const bytes = await this.#store.read(name, range);
      if (isDamaged) bytes[bytes.length >>> 1] ^= 16;
      return bytes;
    });
  }

  size(name: string): Promise<number | undefined> {
    return this.#run('size', [name], () => this.#store.size(name));
  }

  list(prefix: string): Promise<{ name: string; bytes: number }[]> {
    return this.#run('list', [prefix], () => this.#store.list(prefix));
  }

  delete(names: readonly string[]): Promise<{ name: string; cause: unknown }[]> {
    return this.#run('delete', names, () => this.#store.delete(names));
  }

  readSwap(name: string): Promise<{ bytes: Buffer; tag: string } | undefined> {
    return this.#run('readSwap', [name], () => this.#store.readSwap(name));
  }

  swap(name: string, expected: string | undefined, bytes: Uint8Array): Promise<string> {
    return this.#run('swap', [name], () => this.#store.swap(name, expected, bytes));
  }

  async #run<T>(call: Call, names: readonly string[], effect: () => Promise<T>): Promise<T> {
    const n = this.calls++;
    const watched = async (): Promise<T> => {
      try {
        const value = await effect();
        this.#watch(call, names, true, n);
        return value;
      } catch (error) {
        this.#watch(call, names, false, n);
        throw error;
      }
    };
    // whoever sleeps begins nothing else
    await this.#asleep;
    await this.#pause(n, 'before');
    if (n === this.lostCall) {
      this.#late = async () => void (await watched().catch(() => undefined));
      throw lost();
    }
    if (this.lostCall !== undefined && n > this.lostCall && n <= this.lostCall + this.downCalls) throw lost();
    try {
      const value = await watched();
      if (n === this.unansweredCall) throw lost();
      return value;
    } finally {
      await this.#pause(n, 'after');
    }
  }

  async #pause(call: number, when: Moment['when']): Promise<void> {
    if (this.#moment?.call !== call || this.#moment.when !== when) return;
    this.#asleep = new Promise<void>((resolve) => {
      this.#go = resolve;
    });
    this.#stopped?.();
    await this.#asleep;
  }
}
