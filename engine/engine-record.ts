import { decodeImage, type Image } from './image.ts';
import type { Particle } from './particle.ts';
import { digestOfSortKey, partitionOf } from './partition.ts';
import { splitStateKey, state } from './state-record.ts';
import { fromParticle, type Value } from './value.ts';

/** A record as it was read: metadata at once, bins decoded when asked for. `particles` are the exact bytes. */
export class EngineRecord {
  readonly namespace: string;
  readonly set: string;
  /** 20 bytes. */
  readonly digest: Buffer;
  readonly generation: number;
  /** Seconds since 1970, 0 = never expires. */
  readonly voidTime: number;
  /** Last-update time, ms since 1970. */
  readonly lut: number;
  readonly #image: Buffer;
  #decoded: Image | undefined;

  /** `value` is a store value that nobody overwrites. */
  constructor(namespace: string, digest: Buffer, value: Buffer) {
    this.namespace = namespace;
    this.digest = digest;
    this.set = state.set(value);
    this.generation = state.generation(value);
    this.voidTime = state.voidTime(value);
    this.lut = state.lut(value);
    this.#image = state.image(value);
  }

  static ofStore(key: Buffer, value: Buffer): EngineRecord {
    const { namespace, sortKey } = splitStateKey(key);
    return new EngineRecord(namespace, digestOfSortKey(sortKey), value);
  }

  get partition(): number {
    return partitionOf(this.digest);
  }

  /** The stored user key, if there is one. */
  get key(): Particle | undefined {
    return this.#decode().key;
  }

  /** Bin values as bytes with their type, exactly as written (S9). */
  get particles(): ReadonlyMap<string, Particle> {
    return this.#decode().bins;
  }

  /** Bin values as JavaScript values. */
  get bins(): Record<string, Value> {
    return Object.fromEntries([...this.particles].map(([name, p]) => [name, fromParticle(p)]));
  }

  #decode(): Image {
    this.#decoded ??= decodeImage(this.#image);
    return this.#decoded;
  }
}
