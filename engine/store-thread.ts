import type { Worker } from 'node:worker_threads';
import { packChanges } from './change-pack.ts';
import { type ErrorId, type Facts, PitrError } from './errors.ts';
import type { StoreChange, StoreMeta } from './store.ts';
import { startThread } from './thread.ts';

export type ToStoreThread =
  | { readonly kind: 'apply'; readonly buffer: ArrayBuffer; readonly bytes: number; readonly meta: StoreMeta }
  | { readonly kind: 'close' };

export type FromStoreThread =
  | { readonly kind: 'applied'; readonly buffer: ArrayBuffer }
  | { readonly kind: 'failed'; readonly id: ErrorId; readonly facts: Facts }
  | { readonly kind: 'closed' };

/** A buffer larger than this is not kept for the next transaction. */
const ROOM_BYTES_MAX = 64 * 1024 * 1024;

/**
 * The thread that writes large transactions of a store (store-worker.ts). Handing one to LMDB costs several times what copying its
 * bytes costs, and the thread that decides writes is the one that everybody waits for. One request at a time.
 */
export class StoreThread {
  readonly #worker: Worker;
  #asked: PromiseWithResolvers<FromStoreThread> | undefined;
  #ended: PitrError | undefined;
  /** Comes back with each transaction, for the next. */
  #room: ArrayBuffer | undefined;

  constructor(engineDir: string) {
    this.#worker = startThread(import.meta.url, 'store-worker', { workerData: { engineDir } });
    this.#worker.on('message', (answer: FromStoreThread) => this.#asked?.resolve(answer));
    this.#worker.on('error', (cause) => this.#end(String(cause), cause));
    this.#worker.on('exit', () => this.#end("the store's thread ended"));
    this.#worker.unref();
  }

  /** Resolves when the transaction is durable and readers see it. @throws store-full; internal when the thread has ended */
  async apply(changes: readonly StoreChange[], meta: StoreMeta): Promise<void> {
    const { buffer, bytes } = packChanges(changes, this.#room);
    this.#room = undefined;
    const answer = await this.#ask({ kind: 'apply', buffer, bytes, meta }, [buffer]);
    if (answer.kind === 'failed') throw new PitrError(answer.id, answer.facts);
    if (answer.kind === 'applied' && answer.buffer.byteLength <= ROOM_BYTES_MAX) this.#room = answer.buffer;
  }

  /** After what is under way. */
  async close(): Promise<void> {
    await this.#asked?.promise.catch(() => undefined);
    await this.#ask({ kind: 'close' }, []).catch(() => undefined);
    await this.#worker.terminate();
  }

  async #ask(message: ToStoreThread, transfer: ArrayBuffer[]): Promise<FromStoreThread> {
    if (this.#ended) throw this.#ended;
    this.#asked = Promise.withResolvers();
    // an idle thread is no reason to live, one that writes is
    this.#worker.ref();
    this.#worker.postMessage(message, transfer);
    try {
      return await this.#asked.promise;
    } finally {
      this.#asked = undefined;
      this.#worker.unref();
    }
  }

  #end(what: string, cause?: unknown): void {
    this.#ended ??= new PitrError('internal', { what }, { cause });
    this.#asked?.reject(this.#ended);
  }
}
