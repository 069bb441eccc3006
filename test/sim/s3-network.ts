/**
 * The way between a simulated process and the S3 server: the real S3 store with the official client on one side. Each HTTP request is
 * a call of the scheduler. It gets lost, has its effect and no answer, or an answer of something in between (500, 502, 503, 200 with
 * an error in it), arrives late, twice or again, is throttled; bodies are cut or have a flipped bit, in both directions.
 */
import { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';
import type { ObjectStore } from '../../engine/object-store.ts';
import type { S3Options } from '../../engine/s3-options.ts';
import type { HttpAnswer, HttpRequest, Transport } from '../../engine/s3-requests.ts';
import { S3Store } from '../../engine/s3-store.ts';
import type { Timing } from '../../engine/timing.ts';
import type { Rng } from '../model/rng.ts';
import { type Answer, type Message, S3Service, xmlError } from './s3-service.ts';
import { type Fault, type Process, Violation } from './scheduler.ts';
import type { Service } from './service.ts';

const BUCKET = 'sim';
const PREFIX = 'db/';
const SWAP_MAGIC = 'pitrswp1';

const ANSWERLESS: readonly Fault[] = ['before', 'before', 'after', 'after', 'late', 'twice', 'again', 'cut'];
const FAULTS: readonly Fault[] = [...ANSWERLESS, 'damaged'];

/** Nobody answers, until the client gives up. */
const SILENCE: Answer = { status: 0, headers: {}, body: Buffer.alloc(0) };

/** Ways in which provider or way can be broken, to see whether the simulation finds out. */
export interface S3Mutant {
  /** If-Match of a catalog head does not get through. */
  readonly ifMatchLost?: boolean;
  /** What an object's writer is called in its metadata is not what the writer called itself. */
  readonly attemptLies?: boolean;
  /** Damaged bodies arrive as if nobody compared checksums. */
  readonly checksumsLie?: boolean;
  /** What a reader gets of a catalog head may be what was there before. */
  readonly readsStale?: boolean;
}

const messageOf = ({ method, path, query, headers, body }: HttpRequest): Message => ({
  method,
  key: decodeURIComponent(path).slice(BUCKET.length + 2),
  query: query as Message['query'],
  headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])),
  body: typeof body === 'string' ? Buffer.from(body) : Buffer.from((body ?? []) as Uint8Array),
});

/** `cutAt`: the connection breaks, or ends as if that were all. */
interface OnWire extends Answer {
  readonly cutAt?: number;
  readonly breaks?: boolean;
}

const responseOf = ({ status, headers, body, cutAt, breaks }: OnWire): HttpAnswer => ({
  statusCode: status,
  headers: { ...headers },
  body: new Readable({
    read() {
      this.push(cutAt === undefined ? body : body.subarray(0, cutAt));
      if (breaks) this.destroy(Object.assign(new Error('aborted'), { code: 'ECONNRESET' }));
      else this.push(null);
    },
  }),
});

const flipped = (bytes: Buffer, rng: Rng): Buffer => {
  const copy = Buffer.from(bytes);
  if (copy.length > 0) copy[rng.int(0, copy.length - 1)] ^= 1 << rng.int(0, 7);
  return copy;
};

export class S3Network implements Service {
  readonly kind = 's3';
  readonly tries: number;
  readonly service: S3Service;
  onSwap: Service['onSwap'] = () => undefined;
  onCreate: Service['onCreate'] = () => undefined;
  onDelete: Service['onDelete'] = () => undefined;
  readonly bounds = { inFlightMax: 0, triesMax: 0 };
  readonly #rng: Rng;
  readonly #mutant: S3Mutant;
  readonly #url: string;
  readonly #partBytes: number;
  readonly #fail: (error: unknown) => void;
  readonly #clients = new WeakMap<Process, S3Store>();
  readonly #reads = new Map<string, Answer[]>();
  #by: Process | undefined;

  /** `fail` is told what is wrong with how the server is used. */
  constructor(rng: Rng, mutant: S3Mutant, fail: (error: unknown) => void) {
    this.#rng = rng;
    this.#mutant = mutant;
    this.#fail = fail;
    this.service = new S3Service({
      pageKeys: rng.pick([1000, 3]),
      saysEtagOfParts: rng.chance(0.7),
      ignoresRanges: rng.chance(0.1),
    });
    this.tries = rng.pick([2, 3, 8]);
    this.#url =
      `s3://${BUCKET}/${PREFIX.slice(0, -1)}?endpoint=http://sim.invalid&region=us-east-1` +
      `&requests=${rng.pick([1, 4, 16])}&timeout=${rng.pick([1, 2, 5])}&tries=${this.tries}`;
    // far below what providers take, so that what a simulation writes goes up in parts, too
    this.#partBytes = rng.pick([16 * 1024 * 1024, 16 * 1024 * 1024, 300]);
    this.service.onPut = (key, bytes) => this.#put(key, bytes);
    this.service.onDelete = (key) => this.onDelete(key.slice(PREFIX.length));
  }

  clientOf(process: Process): ObjectStore {
    let store = this.#clients.get(process);
    if (!store) {
      store = this.#store(timingOf(process, this.#rng), ({ requestsMax }) =>
        this.#transport(process, requestsMax),
      );
      this.#clients.set(process, store);
    }
    return store;
  }

  direct(): ObjectStore {
    return this.#store(NO_TIMING, () => transportTo(this.service));
  }

  bytesOf(name: string): Buffer | undefined {
    const bytes = this.service.objects.get(PREFIX + name)?.bytes;
    return bytes && (swappedIn(bytes) ?? bytes);
  }

  names(): string[] {
    return [...this.service.objects]
      .filter(([key, { bytes }]) => !key.includes('/.tmp/') && swappedIn(bytes) === undefined)
      .map(([key]) => key.slice(PREFIX.length));
  }

  rot(): string {
    const name = this.#rng.pick(this.names().filter((n) => n !== 'archive'));
    const found = this.service.objects.get(PREFIX + name);
    if (found) this.service.objects.set(PREFIX + name, { ...found, bytes: flipped(found.bytes, this.#rng) });
    return name;
  }

  #put(key: string, bytes: Buffer): void {
    const name = key.slice(PREFIX.length);
    const value = swappedIn(bytes);
    if (value) this.onSwap(name, value);
    else this.onCreate(name, this.#by);
  }

  #store(timing: Timing, transportOf: (options: S3Options) => Transport): S3Store {
    let transport: Transport | undefined;
    const store: S3Store = new S3Store({
      url: this.#url,
      timing,
      transport: {
        handle: (request, options) => {
          transport ??= transportOf(store.options);
          return transport.handle(request, options);
        },
      },
    });
    Object.assign(store.options, { partBytes: this.#partBytes });
    return store;
  }

  #transport(process: Process, requestsMax: number): Transport {
    const tries = new Map<string, number>();
    let inFlight = 0;
    return {
      handle: (request, { abortSignal } = {}) => {
        const message = this.#mutated(messageOf(request));
        const label = labelOf(message);
        this.bounds.inFlightMax = Math.max(this.bounds.inFlightMax, ++inFlight);
        if (inFlight > requestsMax)
          this.#fail(new Violation(`${process.name}: ${inFlight} requests in flight`));
        // writes can be told apart: each has a number that is never used twice
        if (message.body.length > 0 && message.method === 'PUT' && !label.includes('/.tmp/')) {
          const mine = (tries.get(label) ?? 0) + 1;
          tries.set(label, mine);
          this.bounds.triesMax = Math.max(this.bounds.triesMax, mine);
          if (mine > this.tries)
            this.#fail(new Violation(`${process.name}: ${label} for the ${mine}th time`));
        }
        return new Promise((resolve, reject) => {
          const ended = (): void => {
            inFlight--;
          };
          let isOver = false;
          const over = (tell: () => void): void => {
            if (isOver) return;
            isOver = true;
            ended();
            tell();
          };
          abortSignal?.addEventListener('abort', () =>
            over(() => reject(Object.assign(new Error('aborted'), { name: 'AbortError' }))),
          );
          process
            .call<OnWire>(label, (fault) => this.#arrived(process, message, fault), {
              faults: FAULTS,
              remote: true,
              refusal: (fault) => this.#refusal(message, fault),
              error: () => Object.assign(new Error(`read ECONNRESET of ${label}`), { code: 'ECONNRESET' }),
            })
            .then(
              (answer) => {
                if (answer !== SILENCE) over(() => resolve({ response: responseOf(answer) }));
              },
              (error) => over(() => reject(error)),
            );
        });
      },
    };
  }

  /** The request's effect, and its answer as it arrives. */
  #arrived(process: Process, message: Message, fault: Fault | undefined): OnWire {
    const rng = this.#rng;
    const isBad = fault === 'damaged' || (this.#mutant.checksumsLie === true && rng.chance(0.05));
    const isSent = isBad && message.body.length > 0 && rng.chance(0.5);
    const arrived = isSent ? { ...message, body: flipped(message.body, rng) } : message;
    const stale = process.name.startsWith('reader') ? this.#stale(message) : undefined;
    if (stale) return stale;
    this.#by = process;
    // of many keys some may fail
    const isPartial = fault === 'again';
    const answer = this.#lying(
      this.service.answer(
        this.#mutant.checksumsLie && isSent ? unchecked(arrived) : arrived,
        () => isPartial && rng.chance(0.5),
      ),
    );
    this.#by = undefined;
    if (isBad && !isSent) {
      const body = flipped(answer.body, rng);
      const { 'x-amz-meta-pitr-crc32': _, ...headers } = answer.headers;
      return { ...answer, body, headers: this.#mutant.checksumsLie ? headers : answer.headers };
    }
    if (fault !== 'cut' || answer.body.length === 0) return answer;
    return { ...answer, cutAt: rng.int(0, answer.body.length - 1), breaks: rng.chance(0.5) };
  }

  /** How a failure looks; undefined: the connection breaks. */
  #refusal({ method, headers }: Message, fault: Fault): OnWire | undefined {
    const rng = this.#rng;
    const bare = (answer: Answer): OnWire =>
      method === 'HEAD' ? { ...answer, body: Buffer.alloc(0) } : answer;
    const after = rng.pick<Record<string, string>>([{}, { 'retry-after': '1' }, { 'retry-after': '2' }]);
    if (fault === 'throttled')
      return bare(
        rng.pick([
          xmlError(503, 'SlowDown', after),
          xmlError(429, 'TooManyRequests', after),
          xmlError(503, 'ServiceUnavailable', after),
        ]),
      );
    const isConditional = 'if-match' in headers || 'if-none-match' in headers;
    switch (
      rng.weighted({ reset: 3, silence: 2, internal: 2, gateway: 1, ok: method === 'HEAD' ? 0 : 1, race: 1 })
    ) {
      case 'reset':
        return undefined;
      case 'silence':
        return SILENCE;
      case 'internal':
        return bare(xmlError(500, 'InternalError'));
      case 'gateway':
        return { status: 502, headers: { 'content-type': 'text/html' }, body: Buffer.from('<html>') };
      case 'ok':
        return xmlError(200, 'InternalError');
      case 'race':
        return bare(
          isConditional ? xmlError(409, 'ConditionalRequestConflict') : xmlError(500, 'InternalError'),
        );
    }
  }

  #mutated(message: Message): Message {
    if (!this.#mutant.ifMatchLost || !message.key.includes('/heads/')) return message;
    const { 'if-match': _, ...headers } = message.headers;
    return { ...message, headers };
  }

  #stale({ method, key }: Message): Answer | undefined {
    if (!this.#mutant.readsStale || method !== 'GET' || !key.includes('/heads/')) return undefined;
    const before = this.#reads.get(key) ?? [];
    const now = this.service.answer({ method, key, query: {}, headers: {}, body: Buffer.alloc(0) });
    this.#reads.set(key, [...before, now]);
    return this.#rng.pick([...before, now]);
  }

  #lying(answer: Answer): Answer {
    if (!this.#mutant.attemptLies || !('x-amz-meta-pitr-attempt' in answer.headers)) return answer;
    return { ...answer, headers: { ...answer.headers, 'x-amz-meta-pitr-attempt': '0123456789abcdef' } };
  }
}

/** Straight to a server; `change`: what comes back. */
export const transportTo = (
  service: S3Service,
  change: (answer: Answer, message: Message) => Answer = (answer) => answer,
): Transport => ({
  handle: async (request) => {
    const message = messageOf(request);
    return { response: responseOf(change(service.answer(message), message)) };
  },
});

const unchecked = (message: Message): Message => {
  const { 'x-amz-content-sha256': _, 'content-md5': __, ...headers } = message.headers;
  return { ...message, headers };
};

const labelOf = ({ method, key, query, headers, body }: Message): string => {
  const asked = Object.entries(query)
    .filter(([name]) => name !== 'x-id')
    .map(([name, value]) => `${name}=${value ?? ''}`)
    .join('&');
  const attempt = headers['x-amz-meta-pitr-attempt'] ?? '';
  const range = headers.range ?? '';
  return `${method} ${key}${asked === '' ? '' : `?${asked}`} ${range}${attempt} ${body.length} ${crc32(body)}`;
};

/** What is in the envelope of a swapped object: written down here once more. */
const swappedIn = (bytes: Buffer): Buffer | undefined =>
  bytes.toString('latin1', 0, SWAP_MAGIC.length) === SWAP_MAGIC
    ? bytes.subarray(SWAP_MAGIC.length + 1 + 8 * bytes[SWAP_MAGIC.length])
    : undefined;

const timingOf = (process: Process, rng: Rng): Timing => ({
  nowMs: () => process.nowMs(),
  random: () => rng.next(),
  pause: (ms, signal) =>
    new Promise((resolve, reject) => {
      const timer = process.timer(resolve, ms, false);
      signal?.addEventListener('abort', () => {
        process.clearTimer(timer);
        reject(signal.reason);
      });
    }),
});

/** Deadlines are never reached, pauses take no time. */
export const NO_TIMING: Timing = {
  nowMs: () => 0,
  random: () => 0,
  pause: (_, signal) =>
    new Promise((resolve, reject) => {
      if (signal) signal.addEventListener('abort', () => reject(signal.reason));
      else resolve();
    }),
};

let isWarm: Promise<unknown> | undefined;

/** What the client reads from real files when it is used for the first time is read before a run begins. */
export const warmS3 = (rng: Rng): Promise<unknown> => {
  isWarm ??= (async () => {
    Object.assign(process.env, {
      AWS_ACCESS_KEY_ID: 'sim',
      AWS_SECRET_ACCESS_KEY: 'sim',
      AWS_CONFIG_FILE: '/dev/null',
      AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
      AWS_EC2_METADATA_DISABLED: 'true',
    });
    const fail = (error: unknown): never => {
      throw error;
    };
    const store = new S3Network(rng, {}, fail).direct();
    await store.create('warm', Buffer.from('up'));
    await store.swap('swapped', undefined, Buffer.from('up'));
    await store.list('');
    await store.delete(['warm']);
  })();
  return isWarm;
};
