/**
 * The archive's object storage: a service that outlives every process. Requests to it fail before or after their effect, arrive
 * twice or after everybody has given up, and answers come back damaged.
 */
import { crc32 } from 'node:zlib';
import { PitrError } from '../../engine/errors.ts';
import type { ObjectStore } from '../../engine/object-store.ts';
import type { Rng } from '../model/rng.ts';
import { damaged } from './damage.ts';
import type { CallOptions, Fault, Process } from './scheduler.ts';
import type { Service } from './service.ts';

const WRITE_FAULTS: readonly Fault[] = ['before', 'before', 'after', 'late', 'twice', 'again'];
const READ_FAULTS: readonly Fault[] = ['before', 'damaged'];

/** Ways in which the service can be broken, to see whether the simulation finds out. */
export interface BucketMutant {
  /** A swap that does not look at the tag. */
  readonly swapBlind?: boolean;
  /** A create that returns before its effect: what names it may come first. */
  readonly createEarly?: boolean;
}

interface SwapValue {
  readonly bytes: Buffer;
  readonly tag: string;
}

export class Bucket implements Service {
  readonly kind = 'plain';
  readonly tries = 1;
  readonly bounds = { inFlightMax: 0, triesMax: 0 };
  readonly objects = new Map<string, Buffer>();
  readonly swaps = new Map<string, SwapValue>();
  onSwap: Service['onSwap'] = () => undefined;
  onCreate: Service['onCreate'] = () => undefined;
  onDelete: Service['onDelete'] = () => undefined;
  readonly #rng: Rng;
  readonly #mutant: BucketMutant;
  /** The tag is made of the content, as an ETag, and not of the number of swaps. */
  readonly #etags: boolean;
  #swapCount = 0;

  constructor(rng: Rng, etags: boolean, mutant: BucketMutant = {}) {
    this.#rng = rng;
    this.#etags = etags;
    this.#mutant = mutant;
  }

  clientOf(process: Process): ObjectStore {
    return new Client(this, process, (label, effect, faults, damage) => {
      if (this.#mutant.createEarly && label.startsWith('create')) {
        process.call(label, effect, { remote: true }).catch(() => undefined);
        return Promise.resolve(undefined as never);
      }
      const options: CallOptions<ReturnType<typeof effect>> = {
        faults,
        remote: true,
        error: (fault) =>
          fault === 'throttled'
            ? new PitrError('archive-throttled', { op: 'request', name: 'it', url: 'sim:', why: 'SlowDown' })
            : new PitrError('io', { op: 'request', path: 'sim:', why: 'ETIMEDOUT' }),
        ...(damage ? { damage } : {}),
      };
      return process.call(label, effect, options);
    });
  }

  direct(): ObjectStore {
    return new Client(this, undefined, async (_, effect) => effect());
  }

  create(name: string, bytes: Buffer, by: Process | undefined): void {
    if (this.objects.has(name)) throw new PitrError('object-exists', { name });
    this.objects.set(name, bytes);
    this.onCreate(name, by);
  }

  delete(name: string): void {
    if (this.objects.delete(name)) this.onDelete(name);
  }

  bytesOf(name: string): Buffer | undefined {
    return this.objects.get(name) ?? this.swaps.get(name)?.bytes;
  }

  names(): string[] {
    return [...this.objects.keys()];
  }

  swap(name: string, expected: string | undefined, bytes: Buffer): string {
    if (this.swaps.get(name)?.tag !== expected && !this.#mutant.swapBlind)
      throw new PitrError('cas-conflict', { name });
    const tag = this.#etags ? `${crc32(bytes)}-${bytes.length}` : `tag-${++this.#swapCount}`;
    this.swaps.set(name, { bytes, tag });
    this.onSwap(name, bytes);
    return tag;
  }

  /** An answer as it comes back damaged. */
  damaged(bytes: Buffer): Buffer<ArrayBuffer> {
    return damaged(bytes, this.#rng);
  }

  rot(): string {
    const names = [...this.objects.keys()].filter((n) => n !== 'archive');
    const name = this.#rng.pick(names);
    this.objects.set(name, damaged(this.objects.get(name) as Buffer, this.#rng));
    return name;
  }
}

type Request = <T>(
  label: string,
  effect: () => T,
  faults: readonly Fault[],
  damage?: (value: T) => T,
) => Promise<T>;

class Client implements ObjectStore {
  readonly url = 'sim:';
  readonly #bucket: Bucket;
  readonly #process: Process | undefined;
  readonly #request: Request;

  constructor(bucket: Bucket, process: Process | undefined, request: Request) {
    this.#bucket = bucket;
    this.#process = process;
    this.#request = request;
  }

  create(name: string, data: Uint8Array): Promise<void> {
    const bytes = Buffer.from(data);
    return this.#request(
      `create ${name} ${bytes.length} ${crc32(bytes)}`,
      () => this.#bucket.create(name, bytes, this.#process),
      WRITE_FAULTS,
    );
  }

  read(name: string, range: { start: number; end?: number } = { start: 0 }): Promise<Buffer> {
    return this.#request(
      `get ${name} ${range.start}`,
      () => {
        const bytes = this.#bucket.objects.get(name);
        if (!bytes) throw new PitrError('object-not-found', { name });
        return Buffer.from(bytes.subarray(range.start, range.end));
      },
      READ_FAULTS,
      (bytes) => this.#bucket.damaged(bytes),
    );
  }

  size(name: string): Promise<number | undefined> {
    return this.#request(`size ${name}`, () => this.#bucket.objects.get(name)?.length, ['before']);
  }

  list(prefix: string): Promise<{ name: string; bytes: number }[]> {
    return this.#request(
      `list ${prefix}`,
      () =>
        [...this.#bucket.objects]
          .filter(([name]) => name.startsWith(prefix))
          .map(([name, { length }]) => ({ name, bytes: length }))
          .sort((a, b) => (a.name < b.name ? -1 : 1)),
      ['before'],
    );
  }

  delete(names: readonly string[]): Promise<{ name: string; cause: unknown }[]> {
    return this.#request(
      `delete ${names.join(' ')}`,
      () => {
        for (const name of names) this.#bucket.delete(name);
        return [];
      },
      WRITE_FAULTS,
    );
  }

  readSwap(name: string): Promise<{ bytes: Buffer; tag: string } | undefined> {
    return this.#request(
      `read ${name}`,
      () => {
        const found = this.#bucket.swaps.get(name);
        return found && { bytes: Buffer.from(found.bytes), tag: found.tag };
      },
      READ_FAULTS,
      (found) => found && { ...found, bytes: this.#bucket.damaged(found.bytes) },
    );
  }

  swap(name: string, expected: string | undefined, data: Uint8Array): Promise<string> {
    const bytes = Buffer.from(data);
    return this.#request(
      `swap ${name} ${crc32(bytes)}`,
      () => this.#bucket.swap(name, expected, bytes),
      WRITE_FAULTS,
    );
  }
}
