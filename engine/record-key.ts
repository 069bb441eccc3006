import { PitrError } from './errors.ts';
import { keyHash } from './key-table.ts';
import { type Particle, ParticleType } from './particle.ts';
import { DIGEST_BYTES, digestOf, digestOfSortKey } from './partition.ts';
import { partitionOfKey } from './state-digest.ts';
import { sortKeyStart, stateKeyOf } from './state-record.ts';

/**
 * How a caller names a record: by set and user key, or by digest. The user key is stored with the record unless
 * `storeKey` is false; numbers must be safe integers, other integers are bigint.
 */
export interface RecordKey {
  readonly namespace: string;
  readonly set?: string;
  readonly key?: string | number | bigint | Uint8Array;
  /** 20 bytes; instead of `key`, or with it when the two are known not to match. */
  readonly digest?: Uint8Array;
  readonly storeKey?: boolean;
}

const NAMESPACE_BYTES_MAX = 31;
const SET_BYTES_MAX = 63;
const KEY_BYTES_MAX = 1024 * 1024;

const assertName = (what: string, name: string, bytesMax: number): void => {
  const bytes = Buffer.byteLength(name, 'utf8');
  if (bytes > bytesMax || name.includes('\0'))
    throw new PitrError('bad-record', {
      what: `${what} "${name}"`,
      hint: `at most ${bytesMax} bytes, no NUL`,
    });
};

/** @throws bad-record for a namespace that could not be stored */
export const assertNamespace = (name: string): void => {
  if (name === '') throw new PitrError('bad-record', { what: 'the namespace is empty' });
  assertName('namespace', name, NAMESPACE_BYTES_MAX);
};

export const assertSet = (name: string): void => assertName('set', name, SET_BYTES_MAX);

const keyParticle = (key: string | number | bigint | Uint8Array): Particle => {
  if (typeof key === 'string') return { type: ParticleType.string, bytes: Buffer.from(key, 'utf8') };
  if (key instanceof Uint8Array) return { type: ParticleType.blob, bytes: key };
  if (typeof key === 'number' && !Number.isSafeInteger(key))
    throw new PitrError('bad-record', { what: `key ${key}`, hint: 'keys are integers, strings or bytes' });
  const bytes = Buffer.allocUnsafe(8);
  if (typeof key === 'number') {
    bytes.writeInt32BE(Math.floor(key / 2 ** 32), 0);
    bytes.writeUInt32BE(key >>> 0, 4);
    return { type: ParticleType.integer, bytes };
  }
  const integer = BigInt(key);
  if (integer < -(2n ** 63n) || integer >= 2n ** 63n)
    throw new PitrError('bad-record', { what: `key ${key} is over 64 bits` });
  bytes.writeBigInt64BE(integer);
  return { type: ParticleType.integer, bytes };
};

/** Names that have passed their check, so that it is made once and not for each record. Bounded. */
const goodNamespaces = new Set<string>();
const goodSets = new Set<string>();
const GOOD_NAMES_MAX = 4096;

const checkOnce = (good: Set<string>, name: string, check: (name: string) => void): void => {
  if (good.has(name)) return;
  check(name);
  if (good.size < GOOD_NAMES_MAX) good.add(name);
};

/** A record named by its parts, checked. */
export class RecordId {
  readonly namespace: string;
  readonly set: string;
  readonly storedKey: Particle | undefined;
  readonly partition: number;
  readonly storeKey: Buffer;
  /** Of the store key, for a KeyTable. */
  readonly hash: number;
  readonly #key: RecordKey;

  /** `digest` is not kept. */
  constructor(key: RecordKey, set: string, digest: Uint8Array, storedKey: Particle | undefined) {
    this.namespace = key.namespace;
    this.set = set;
    this.storedKey = storedKey;
    this.storeKey = stateKeyOf(key.namespace, digest);
    this.partition = partitionOfKey(this.storeKey);
    this.hash = keyHash(this.storeKey);
    this.#key = key;
  }

  get digest(): Buffer {
    return digestOfSortKey(this.storeKey, sortKeyStart(this.storeKey));
  }

  /** For messages. */
  get text(): string {
    const { key } = this.#key;
    const shown =
      key === undefined
        ? this.digest.toString('hex')
        : key instanceof Uint8Array
          ? Buffer.from(key).toString('hex')
          : String(key);
    return `${this.namespace}/${this.set || '-'}/${shown}`;
  }
}

/** Checks a key and derives digest, partition and store key. @throws bad-record */
export const resolveKey = (key: RecordKey): RecordId => {
  const set = key.set ?? '';
  checkOnce(goodNamespaces, key.namespace, assertNamespace);
  checkOnce(goodSets, set, assertSet);
  const particle = key.key === undefined ? undefined : keyParticle(key.key);
  if (particle && particle.bytes.length > KEY_BYTES_MAX)
    throw new PitrError('bad-record', { what: `a key of ${particle.bytes.length} bytes` });
  if (!particle && !key.digest) throw new PitrError('bad-record', { what: 'it has neither key nor digest' });
  if (key.digest && key.digest.length !== DIGEST_BYTES)
    throw new PitrError('bad-record', { what: `a digest of ${key.digest.length} bytes` });
  const digest = key.digest ?? digestOf(set, (particle as Particle).type, (particle as Particle).bytes);
  return new RecordId(key, set, digest, key.storeKey === false ? undefined : particle);
};
