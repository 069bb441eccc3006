/** An object store in memory, with hooks: counts calls, and fails any of them before or after its effect. */
import { PitrError } from '../../engine/errors.ts';
import type { ObjectStore } from '../../engine/object-store.ts';

export type Call = 'create' | 'read' | 'size' | 'list' | 'delete' | 'readSwap' | 'swap';
export const WRITING_CALLS: ReadonlySet<Call> = new Set(['create', 'delete', 'swap']);

export class MemoryStore implements ObjectStore {
  readonly url = 'memory:';
  readonly objects = new Map<string, Buffer>();
  readonly swaps = new Map<string, { bytes: Buffer; tag: string }[]>();
  readonly calls: { call: Call; name: string }[] = [];
  /** Called before and after the effect of each call; throws what the caller shall see. */
  hook: (call: Call, name: string, when: 'before' | 'after') => void | Promise<void> = () => undefined;

  /** An independent copy without hooks. */
  copy(): MemoryStore {
    const it = new MemoryStore();
    for (const [name, bytes] of this.objects) it.objects.set(name, bytes);
    for (const [name, values] of this.swaps) it.swaps.set(name, [...values]);
    return it;
  }

  countOf(call: Call): number {
    return this.calls.filter((c) => c.call === call).length;
  }

  create(name: string, bytes: Uint8Array): Promise<void> {
    return this.#run('create', name, () => {
      if (this.objects.has(name)) throw new PitrError('object-exists', { name });
      this.objects.set(name, Buffer.from(bytes));
    });
  }

  read(name: string, range: { start: number; end?: number } = { start: 0 }): Promise<Buffer> {
    return this.#run('read', name, () => {
      const bytes = this.objects.get(name);
      if (!bytes) throw new PitrError('object-not-found', { name });
      return Buffer.from(bytes.subarray(range.start, range.end));
    });
  }

  size(name: string): Promise<number | undefined> {
    return this.#run('size', name, () => this.objects.get(name)?.length);
  }

  list(prefix: string): Promise<{ name: string; bytes: number }[]> {
    return this.#run('list', prefix, () =>
      [...this.objects]
        .filter(([name]) => name.startsWith(prefix))
        .map(([name, { length }]) => ({ name, bytes: length }))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
    );
  }

  delete(names: readonly string[]): Promise<{ name: string; cause: unknown }[]> {
    return this.#run('delete', names.join(), () => {
      for (const name of names) this.objects.delete(name);
      return [];
    });
  }

  readSwap(name: string): Promise<{ bytes: Buffer; tag: string } | undefined> {
    return this.#run('readSwap', name, () => this.swaps.get(name)?.at(-1));
  }

  swap(name: string, expected: string | undefined, bytes: Uint8Array): Promise<string> {
    return this.#run('swap', name, () => {
      const values = this.swaps.get(name) ?? [];
      if (values.at(-1)?.tag !== expected) throw new PitrError('cas-conflict', { name });
      const tag = `tag-${values.length + 1}`;
      this.swaps.set(name, [...values, { bytes: Buffer.from(bytes), tag }]);
      return tag;
    });
  }

  async #run<T>(call: Call, name: string, effect: () => T): Promise<T> {
    this.calls.push({ call, name });
    await this.hook(call, name, 'before');
    const result = effect();
    await this.hook(call, name, 'after');
    return result;
  }
}

export const lost = (): PitrError =>
  new PitrError('io', { op: 'request', path: 'memory:', why: 'ECONNRESET' });
