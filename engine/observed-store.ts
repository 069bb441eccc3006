import { PitrError } from './errors.ts';
import type { ObjectStore } from './object-store.ts';
import type { RequestKind, StoreObserver } from './store-observer.ts';

/** A store that tells an observer of each of its requests: how long it took, how many bytes went which way, how it failed. */
export class ObservedStore implements ObjectStore {
  readonly #store: ObjectStore;
  readonly #observe: StoreObserver;
  readonly #nowMs: () => number;

  /** `nowMs` never goes back. */
  constructor(
    store: ObjectStore,
    observe: StoreObserver,
    nowMs: () => number = performance.now.bind(performance),
  ) {
    this.#store = store;
    this.#observe = observe;
    this.#nowMs = nowMs;
  }

  get url(): string {
    return this.#store.url;
  }

  create(name: string, bytes: Uint8Array): Promise<void> {
    return this.#measured('create', () => this.#store.create(name, bytes), { sentBytes: bytes.length });
  }

  read(name: string, range?: { start: number; end?: number }): Promise<Buffer> {
    return this.#measured('read', () => this.#store.read(name, range), { received: (b) => b.length });
  }

  size(name: string): Promise<number | undefined> {
    return this.#measured('size', () => this.#store.size(name));
  }

  list(prefix: string): Promise<{ name: string; bytes: number }[]> {
    return this.#measured('list', () => this.#store.list(prefix));
  }

  delete(names: readonly string[]): Promise<{ name: string; cause: unknown }[]> {
    return this.#measured('delete', () => this.#store.delete(names), { failed: (left) => left });
  }

  readSwap(name: string): Promise<{ bytes: Buffer; tag: string } | undefined> {
    return this.#measured('read-swap', () => this.#store.readSwap(name), {
      received: (found) => found?.bytes.length ?? 0,
    });
  }

  swap(name: string, expected: string | undefined, bytes: Uint8Array): Promise<string> {
    return this.#measured('swap', () => this.#store.swap(name, expected, bytes), { sentBytes: bytes.length });
  }

  async #measured<T>(
    request: RequestKind,
    run: () => Promise<T>,
    { sentBytes = 0, received, failed }: Measures<T> = {},
  ): Promise<T> {
    const startMs = this.#nowMs();
    let receivedBytes = 0;
    let causes: readonly { readonly cause: unknown }[] = [];
    try {
      const result = await run();
      receivedBytes = received?.(result) ?? 0;
      causes = failed?.(result) ?? [];
      return result;
    } catch (cause) {
      causes = [{ cause }];
      throw cause;
    } finally {
      const errors = causes.map(({ cause }) => (cause instanceof PitrError ? cause.id : 'internal'));
      this.#observe({
        kind: 'request',
        request,
        ms: this.#nowMs() - startMs,
        sentBytes,
        receivedBytes,
        errors,
      });
    }
  }
}

interface Measures<T> {
  readonly sentBytes?: number;
  readonly received?: (result: T) => number;
  readonly failed?: (result: T) => readonly { readonly cause: unknown }[];
}
