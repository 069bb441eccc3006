/**
 * An archive on S3, or on a server that speaks its protocol.
 *
 *     <prefix>/segments/…        an object; metadata: CRC-32 of its bytes, and the id of the attempt that wrote it
 *     <prefix>/heads/…           a swappable object: an envelope (swap-envelope.ts)
 *     <prefix>/.tmp/conditions   with it the provider was seen to keep conditions; invisible
 *
 * O1: a name is written once: a single PUT on the condition that there is none, also when the object itself follows in parts.
 * O2: a swap is a single PUT on the condition that the ETag is still the same; equal values have different ETags (SW1).
 * O3: an answer that got lost is settled by looking: own attempt or own nonce there is success, anything else is not.
 * O4: nothing is written before the provider was seen to refuse what its conditions forbid, unless there is one writer by the
 *     operator's word.
 * O5: whole objects are compared with their CRC-32; ranges are checked by the formats in them.
 */
import { randomBytes } from 'node:crypto';
import { PitrError } from './errors.ts';
import { checkFolder, checkName, checkRange, isObjectName, RESERVED_FOLDER } from './object-name.ts';
import type { Leftovers, ObjectStore, StoredObject } from './object-store.ts';
import type { RequestTally } from './request-tally.ts';
import { errorOf, S3Failure } from './s3-failure.ts';
import { S3Leftovers } from './s3-leftovers.ts';
import {
  type ByteRange,
  type Condition,
  type Content,
  crcOf,
  type Found,
  get,
  head,
  type Label,
  list,
  metadataOf,
  put,
  remove,
  storageOf,
} from './s3-objects.ts';
import { parseS3Url, type S3Options } from './s3-options.ts';
import { S3Requests, type Transport } from './s3-requests.ts';
import { uploadParts } from './s3-upload.ts';
import type { StoreObserver } from './store-observer.ts';
import { isFull, openEnvelope, parseTag, sealEnvelope, tagOf } from './swap-envelope.ts';
import { systemTiming, type Timing } from './timing.ts';

/** Keys of one deletion: the protocol's limit. */
const DELETE_KEYS_MAX = 1000;
const CONDITIONS_OBJECT = `${RESERVED_FOLDER}/conditions`;
/** An ETag that no object has. */
const NO_ETAG = '"00000000000000000000000000000000"';
/** Of a value of ours that somebody else has replaced meanwhile: no swap that expects it can win. */
const GONE_ETAG = '"replaced"';

export interface S3StoreOptions {
  readonly url: string;
  readonly timing?: Timing;
  /** Told of tries, retries and waits; of the requests themselves observed-store.ts tells. */
  readonly observe?: StoreObserver;
  /** 16 hex digits, never the same twice. */
  readonly nonce?: () => string;
  readonly transport?: Transport;
}

export class S3Store implements ObjectStore {
  readonly url: string;
  readonly options: S3Options;
  readonly requests: S3Requests;
  readonly leftovers: Leftovers;
  /** Ids of uploads in parts that this store has under way. */
  readonly #uploads = new Set<string>();
  readonly #nonce: () => string;
  readonly #prefix: string;
  /** The last write of each name that has one on its way: with one writer, looking and writing must not interleave. */
  readonly #turns = new Map<string, Promise<unknown>>();
  #conditionsKept: Promise<void> | undefined;
  /** Servers differ in how they want to see an ETag in a condition: as they gave it, or without its quotes. */
  #wantsBareEtags = false;

  constructor({
    url,
    timing = systemTiming,
    observe,
    nonce = () => randomBytes(8).toString('hex'),
    transport,
  }: S3StoreOptions) {
    this.url = url;
    this.options = parseS3Url(url);
    this.requests = new S3Requests(this.options, timing, observe, transport);
    this.#nonce = nonce;
    this.#prefix = this.options.prefix === '' ? '' : `${this.options.prefix}/`;
    this.leftovers = new S3Leftovers({
      requests: this.requests,
      options: this.options,
      url,
      prefix: this.#prefix,
      isUnderWay: (id) => this.#uploads.has(id),
    });
  }

  get tally(): RequestTally {
    return this.requests.tally;
  }

  async create(name: string, bytes: Uint8Array): Promise<void> {
    checkName(name);
    await this.#named('create', name, async () => {
      await this.#conditions();
      const label = { crc32: crcOf(bytes), attempt: this.#nonce() };
      await this.#inTurn(name, async () => {
        if (bytes.length <= 2 * this.options.partBytes) await this.#putNew(name, bytes, label);
        else await this.#createLarge(name, bytes, label);
      });
    });
  }

  async read(name: string, range?: { start: number; end?: number }): Promise<Buffer> {
    checkName(name);
    checkRange(range);
    return this.#named('read', name, async () => {
      const content = await this.#read(name, range);
      if (content === undefined) throw new PitrError('object-not-found', { name });
      return content;
    });
  }

  async size(name: string): Promise<number | undefined> {
    checkName(name);
    return this.#named('size', name, async () => {
      const found = await this.#find(name);
      return found === undefined || found.label.isPending ? undefined : found.bytes;
    });
  }

  async list(prefix: string): Promise<StoredObject[]> {
    const found: StoredObject[] = [];
    for await (const page of this.pages(prefix)) found.push(...page);
    return found.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async *pages(prefix: string): AsyncGenerator<readonly StoredObject[]> {
    checkFolder(prefix);
    let from: string | undefined;
    do {
      const page = await this.#named('list', prefix, () =>
        this.requests.send({
          run: (attempt) => list(attempt, this.options.bucket, this.#prefix + prefix, from),
        }),
      );
      yield page.objects
        .map(({ key, bytes }) => ({ name: key.slice(this.#prefix.length), bytes }))
        // what no object can be called is not ours
        .filter(({ name }) => isObjectName(name));
      from = page.next;
    } while (from !== undefined);
  }

  async delete(names: readonly string[]): Promise<{ name: string; cause: unknown }[]> {
    const failures: { name: string; cause: unknown }[] = [];
    const valid = names.filter((name) => {
      if (isObjectName(name)) return true;
      failures.push({
        name,
        cause: new PitrError('usage', { what: `${JSON.stringify(name)} is not an object name` }),
      });
      return false;
    });
    for (let at = 0; at < valid.length; at += DELETE_KEYS_MAX)
      failures.push(...(await this.#deleteSome(valid.slice(at, at + DELETE_KEYS_MAX))));
    return failures;
  }

  async readSwap(name: string): Promise<{ bytes: Buffer; tag: string } | undefined> {
    checkName(name);
    return this.#named('read', name, async () => {
      const now = await this.#readEnvelope(name);
      return now && { bytes: now.value, tag: tagOf(now.etag, now.nonces) };
    });
  }

  async swap(name: string, expected: string | undefined, bytes: Uint8Array): Promise<string> {
    checkName(name);
    const old = expected === undefined ? undefined : parseTag(name, expected);
    return this.#named('swap', name, async () => {
      await this.#conditions();
      return this.#inTurn(name, () => this.#swap(name, old, bytes));
    });
  }

  /** One PUT that must find nothing. @throws object-exists */
  async #putNew(name: string, bytes: Uint8Array, label: Label): Promise<void> {
    if (this.options.singleWriter && (await this.#find(name)) !== undefined)
      throw new PitrError('object-exists', { name });
    await this.requests.send({
      bytes: bytes.length,
      run: (attempt) =>
        put(
          attempt,
          {
            Bucket: this.options.bucket,
            Key: this.#keyOf(name),
            Body: bytes,
            Metadata: metadataOf(label),
            // a name that is taken for a moment only is not worth a class that is paid by the month
            ...(label.isPending ? {} : storageOf(this.options, name)),
          },
          this.#condition({ absent: true }),
        ),
      // A refusal too can be the answer to a second delivery of our own request.
      settle: async () => {
        const found = await this.#find(name);
        if (found === undefined) return undefined;
        if (await this.#isOwn(name, found, bytes, label)) return found.etag;
        throw new PitrError('object-exists', { name });
      },
    });
  }

  async #isOwn(name: string, found: Found, bytes: Uint8Array, label: Label): Promise<boolean> {
    if (found.label.attempt !== undefined) return found.label.attempt === label.attempt;
    // a provider that forgets metadata
    if (label.isPending || found.bytes !== bytes.length) return false;
    return (await this.#read(name, undefined))?.equals(bytes) ?? false;
  }

  async #createLarge(name: string, bytes: Uint8Array, label: Label): Promise<void> {
    await this.#putNew(name, Buffer.alloc(0), { attempt: this.#nonce(), isPending: true });
    const isDone = async (): Promise<boolean> => {
      const found = await this.#find(name);
      return found?.label.attempt === label.attempt && found?.bytes === bytes.length;
    };
    try {
      await uploadParts(
        this.requests,
        this.options,
        { key: this.#keyOf(name), name, bytes, label, underWay: this.#uploads },
        isDone,
      );
    } catch (error) {
      // The name is ours. Left behind it would read as absent, too.
      await this.#deleteSome([name]).catch(() => undefined);
      throw error;
    }
  }

  async #read(name: string, range: ByteRange | undefined): Promise<Buffer | undefined> {
    // HTTP has no way to ask for nothing
    if (range && range.end === range.start) return (await this.#find(name)) && Buffer.alloc(0);
    try {
      const { content, label } = await this.#get(name, range);
      return label.isPending ? undefined : content;
    } catch (error) {
      if (!(error instanceof S3Failure)) throw error;
      if (error.kind === 'missing') return undefined;
      if (error.kind !== 'range' || range === undefined) throw error;
      return this.#readRefused(name, range, error);
    }
  }

  /** The provider says that there is nothing in the range. Some say that of the last 100 bytes of an object of 50. */
  async #readRefused(
    name: string,
    { start, end }: ByteRange,
    refusal: S3Failure,
  ): Promise<Buffer | undefined> {
    const found = await this.#find(name);
    if (found === undefined || found.label.isPending) return undefined;
    const from = start < 0 ? Math.max(0, found.bytes + start) : start;
    if (from >= found.bytes) return Buffer.alloc(0);
    if (start >= 0) throw refusal;
    return this.#read(name, { start: from, ...(end === undefined ? {} : { end }) });
  }

  #get(name: string, range: ByteRange | undefined): Promise<Content> {
    return this.requests.send({
      run: (attempt) => get(attempt, this.options.bucket, this.#keyOf(name), range),
    });
  }

  /** `undefined` when there is certainly no such object in a bucket that exists. */
  async #find(name: string): Promise<Found | undefined> {
    try {
      return await this.requests.send({
        run: (attempt) => head(attempt, this.options.bucket, this.#keyOf(name)),
      });
    } catch (error) {
      if (!(error instanceof S3Failure && error.kind === 'missing')) throw error;
    }
    // HEAD has no body that could say whether it is the bucket that is missing.
    try {
      return await this.#get(name, undefined);
    } catch (error) {
      if (error instanceof S3Failure && error.kind === 'missing') return undefined;
      throw error;
    }
  }

  async #deleteSome(names: readonly string[]): Promise<{ name: string; cause: unknown }[]> {
    const { url } = this;
    const { bucket } = this.options;
    const told = (name: string, failure: S3Failure) => ({
      name,
      cause: errorOf(failure, { op: 'delete', name, url, bucket }),
    });
    const final: { name: string; cause: unknown }[] = [];
    let left = names;
    try {
      await this.requests.send({
        run: async (attempt) => {
          const keys = left.map((name) => this.#keyOf(name));
          const failures = (await remove(attempt, bucket, keys)).map(({ key, failure }) => ({
            name: key.slice(this.#prefix.length),
            failure,
          }));
          const passing = failures.filter(({ failure }) => failure.isPassing);
          left = passing.map(({ name }) => name);
          for (const { name, failure } of failures) if (!failure.isPassing) final.push(told(name, failure));
          // those that may go later are tried again, without the others
          if (passing.length > 0) throw passing[0]!.failure;
        },
      });
    } catch (error) {
      if (!(error instanceof S3Failure)) throw error;
      final.push(...left.map((name) => told(name, error)));
    }
    return final;
  }

  async #readEnvelope(
    name: string,
  ): Promise<{ etag: string; nonces: readonly string[]; value: Buffer } | undefined> {
    try {
      const { content, etag } = await this.#get(name, undefined);
      return { etag, ...openEnvelope(name, content) };
    } catch (error) {
      if (error instanceof S3Failure && error.kind === 'missing') return undefined;
      throw error;
    }
  }

  async #swap(
    name: string,
    old: { etag: string; nonces: readonly string[] } | undefined,
    bytes: Uint8Array,
  ): Promise<string> {
    const conflict = (): PitrError => new PitrError('cas-conflict', { name });
    const nonce = this.#nonce();
    const sealed = sealEnvelope(nonce, old?.nonces ?? [], bytes);
    const { nonces } = openEnvelope(name, sealed);
    let etag = old?.etag;
    let wasBare = this.#wantsBareEtags;
    if (this.options.singleWriter && (await this.#readEnvelope(name))?.nonces[0] !== old?.nonces[0])
      throw conflict();
    try {
      return await this.requests.send({
        bytes: sealed.length,
        run: async (attempt) => {
          wasBare = this.#wantsBareEtags;
          const given = await put(
            attempt,
            {
              Bucket: this.options.bucket,
              Key: this.#keyOf(name),
              Body: sealed,
              Metadata: metadataOf({ crc32: crcOf(sealed) }),
              ...storageOf(this.options, name),
            },
            this.#condition(etag === undefined ? { absent: true } : { etag }),
          );
          return tagOf(given, nonces);
        },
        settle: async (failure) => {
          const now = await this.#readEnvelope(name);
          if (now?.nonces[0] === nonce) return tagOf(now.etag, nonces);
          if (now?.nonces.includes(nonce)) return tagOf(GONE_ETAG, nonces);
          if (now?.nonces[0] === old?.nonces[0]) {
            // Unchanged and refused all the same: it wants to see the tag otherwise.
            if (failure.kind === 'condition' && now?.etag === etag) this.#wantsBareEtags = !wasBare;
            etag = now?.etag;
            return undefined;
          }
          // Others came between. Whether ours was among them is certain unless they were too many to be remembered.
          const isCertain =
            now === undefined || !isFull(now.nonces) || now.nonces.includes(old?.nonces[0] ?? '');
          if (isCertain || failure.kind === 'condition') throw conflict();
          throw failure;
        },
      });
    } catch (error) {
      // What the condition speaks of is not there any more.
      if (error instanceof S3Failure && error.kind === 'missing') throw conflict();
      throw error;
    }
  }

  #condition(condition: Condition): Condition | undefined {
    if (this.options.singleWriter) return undefined;
    if ('absent' in condition || !this.#wantsBareEtags) return condition;
    return { etag: condition.etag.replace(/^"(.*)"$/, '$1') };
  }

  /** O4, once per store. */
  #conditions(): Promise<void> {
    if (this.options.singleWriter) return Promise.resolve();
    this.#conditionsKept ??= this.#proveConditions().catch((error) => {
      this.#conditionsKept = undefined;
      throw error;
    });
    return this.#conditionsKept;
  }

  async #proveConditions(): Promise<void> {
    const refuses = async (condition: Condition): Promise<boolean> => {
      try {
        await this.requests.send({
          run: (attempt) =>
            put(
              attempt,
              {
                Bucket: this.options.bucket,
                Key: this.#keyOf(CONDITIONS_OBJECT),
                Body: Buffer.from('kept\n'),
              },
              condition,
            ),
          settle: async (failure) => {
            if (failure.kind === 'condition') throw failure;
            return undefined;
          },
        });
        return false;
      } catch (error) {
        if (!(error instanceof S3Failure)) throw error;
        if (error.kind === 'unsupported') throw this.#unsafe(`it does not know them (${error.code})`, error);
        if (error.kind === 'condition' || error.kind === 'missing') return true;
        throw error;
      }
    };
    // both to their end: nothing goes on behind the back of who is told of a failure
    const [create, swap] = await Promise.allSettled([refuses({ absent: true }), refuses({ etag: NO_ETAG })]);
    if (create.status === 'rejected') throw create.reason;
    if (swap.status === 'rejected') throw swap.reason;
    if (!swap.value) throw this.#unsafe('If-Match with a wrong ETag was accepted');
    // The first to come makes the object; then it is there.
    if (!create.value && !(await refuses({ absent: true })))
      throw this.#unsafe('If-None-Match: * was accepted although the object exists');
  }

  #unsafe(why: string, cause?: unknown): PitrError {
    return new PitrError('archive-unsafe', { url: this.url, why }, { cause });
  }

  /** Writes of one name by this process, one after the other. */
  async #inTurn<T>(name: string, write: () => Promise<T>): Promise<T> {
    if (!this.options.singleWriter) return write();
    const before = this.#turns.get(name);
    const mine = (before ?? Promise.resolve()).then(write, write);
    const settled = mine.catch(() => undefined);
    this.#turns.set(name, settled);
    try {
      return await mine;
    } finally {
      if (this.#turns.get(name) === settled) this.#turns.delete(name);
    }
  }

  #keyOf(name: string): string {
    return this.#prefix + name;
  }

  /** Tells what was done to what when it fails. */
  async #named<T>(op: string, name: string, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof S3Failure)) throw error;
      const { url } = this;
      const { bucket } = this.options;
      throw errorOf(error, { op, name, url, bucket });
    }
  }
}
