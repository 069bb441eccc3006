import { PitrError } from './errors.ts';
import type { ObjectStore } from './object-store.ts';
import type { RequestKind, StoreObserver } from './store-observer.ts';

interface Measures<T> {
  readonly sentBytes?: number;
  readonly received?: (result: T) => number;
  readonly failed?: (result: T) => readonly { readonly cause: unknown }[];
}

/**
 * The store, which tells an observer of each of its requests: how long it took, how many bytes went which way, how it failed. Whatever
 * else a store has is passed on as it is, so that nothing gets lost by being observed. `nowMs` never goes back.
 */
export const observedStore = (
  store: ObjectStore,
  observe: StoreObserver,
  nowMs: () => number = performance.now.bind(performance),
): ObjectStore => {
  const measured = async <T>(
    request: RequestKind,
    run: () => Promise<T>,
    { sentBytes = 0, received, failed }: Measures<T> = {},
  ): Promise<T> => {
    const startMs = nowMs();
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
      observe({ kind: 'request', request, ms: nowMs() - startMs, sentBytes, receivedBytes, errors });
    }
  };
  const methods: Omit<ObjectStore, 'url'> = {
    create: (name, bytes) => measured('create', () => store.create(name, bytes), { sentBytes: bytes.length }),
    read: (name, range) => measured('read', () => store.read(name, range), { received: (b) => b.length }),
    size: (name) => measured('size', () => store.size(name)),
    list: (prefix) => measured('list', () => store.list(prefix)),
    delete: (names) => measured('delete', () => store.delete(names), { failed: (left) => left }),
    readSwap: (name) =>
      measured('read-swap', () => store.readSwap(name), { received: (found) => found?.bytes.length ?? 0 }),
    swap: (name, expected, bytes) =>
      measured('swap', () => store.swap(name, expected, bytes), { sentBytes: bytes.length }),
  };
  return new Proxy(store, {
    get: (target, name) => {
      if (Object.hasOwn(methods, name)) return Reflect.get(methods, name);
      // private fields are the store's own, not the proxy's
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
};
