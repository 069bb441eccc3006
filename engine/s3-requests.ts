/**
 * Sending requests to an S3 server: one policy of tries for everything, the SDK's own is switched off. Every try has a
 * deadline, so nothing hangs, and there are never more requests in flight than the settings say.
 *
 * The SDK is loaded with the first request: commands that talk to a directory do not pay for it.
 */
import { createHash } from 'node:crypto';
import type { S3Client, S3ClientConfig, ServiceInputTypes, ServiceOutputTypes } from '@aws-sdk/client-s3';
import { PitrError } from './errors.ts';
import { RequestPacer } from './request-pacer.ts';
import { type RequestCounts, RequestTally } from './request-tally.ts';
import { failureOf, S3Failure } from './s3-failure.ts';
import type { S3Options } from './s3-options.ts';
import type { StoreObserver } from './store-observer.ts';
import type { Timing } from './timing.ts';

const CONNECT_MS_MAX = 5000;
/** A body that moves slower than this is a hanging one. */
const SLOWEST_BYTES_PER_MS = 128;
const BACKOFF_MS = 100;
/** A provider that asks for less is left alone for longer. */
const THROTTLED_BACKOFF_MS = 500;
const BACKOFF_MS_MAX = 10_000;
const RETRY_AFTER_MS_MAX = 60_000;

type Sdk = typeof import('@aws-sdk/client-s3');

/** A request as the SDK has made and signed it. */
export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, unknown>>;
  readonly headers: Record<string, string>;
  readonly body?: unknown;
}

/** `body`: a stream. Names of headers in lower case. */
export interface HttpAnswer {
  readonly statusCode: number;
  readonly headers: Record<string, string>;
  readonly body: AsyncIterable<Uint8Array>;
}

/** Carries the SDK's requests to a server and brings its answers. Default: the SDK's own, over HTTP. */
export type Transport = {
  handle(request: HttpRequest, options?: { abortSignal?: AbortSignal }): Promise<{ response: HttpAnswer }>;
};

/** The SDK and a client of it, loaded. */
export interface Aws {
  readonly sdk: Sdk;
  readonly client: S3Client;
}

/** What one try has to work with. */
export interface Try extends Aws {
  readonly signal: AbortSignal;
  /** Moves the deadline: so many bytes are coming. */
  expects(bytes: number): void;
  /** The bytes came: they count against the bandwidth. */
  came(bytes: number): void;
}

export interface Request<T> {
  /** Bytes that are sent. */
  readonly bytes?: number;
  run(attempt: Try): Promise<T>;
  /**
   * Asked after a failure that may have had its effect. Gives the result if it can tell that there is one, `undefined` if the
   * request shall be tried again; or throws.
   */
  settle?(failure: S3Failure): Promise<T | undefined>;
}

export class S3Requests {
  readonly tally = new RequestTally();
  readonly #options: S3Options;
  readonly #timing: Timing;
  readonly #pacer: RequestPacer;
  readonly #observe: StoreObserver | undefined;
  readonly #transport: Transport | undefined;
  #aws: Promise<Aws> | undefined;

  constructor(options: S3Options, timing: Timing, observe?: StoreObserver, transport?: Transport) {
    this.#options = options;
    this.#timing = timing;
    this.#pacer = new RequestPacer(options, timing, observe);
    this.#observe = observe;
    this.#transport = transport;
  }

  /** @throws S3Failure of the last try, and whatever `settle` throws */
  async send<T>(request: Request<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      const failure = await this.#try(request);
      if (!(failure instanceof S3Failure)) return failure.result;
      if (failure.isUnclear && request.settle) {
        const settled = await request.settle(failure);
        if (settled !== undefined) return settled;
      } else if (!failure.isPassing) throw failure;
      if (tries >= this.#options.triesMax) throw failure;
      const pauseMs = this.#backoffMs(failure, tries);
      this.#observe?.({ kind: 'retry', cause: failure.kind });
      this.#observe?.({ kind: 'wait', reason: 'retry', ms: pauseMs });
      await this.#timing.pause(pauseMs);
    }
  }

  async #try<T>(request: Request<T>): Promise<{ result: T } | S3Failure> {
    const aws = await this.#load();
    try {
      const result = await this.#pacer.run(() => this.#attempt(aws, request));
      this.#observe?.({ kind: 'try', failure: null });
      return { result };
    } catch (cause) {
      // ours are answers, not failures of the way to them; and a mistake in a program does not pass
      if (cause instanceof PitrError || isMistake(cause)) throw cause;
      const failure = failureOf(cause);
      this.#observe?.({ kind: 'try', failure: failure.kind });
      return failure;
    }
  }

  async #attempt<T>(aws: Aws, request: Request<T>): Promise<T> {
    const bytes = request.bytes ?? 0;
    await this.#pacer.pass(bytes);
    const deadline = new Deadline(this.#timing, this.#options.timeoutMs);
    let cameBytes = 0;
    deadline.allow(bytes);
    try {
      return await Promise.race([
        request.run({
          ...aws,
          signal: deadline.signal,
          expects: (more) => deadline.allow(more),
          came: (more) => {
            cameBytes += more;
          },
        }),
        deadline.passed,
      ]);
    } finally {
      deadline.end();
      this.tally.add({ sentBytes: bytes, receivedBytes: cameBytes });
      await this.#pacer.pass(cameBytes);
    }
  }

  #backoffMs({ kind, retryAfterMs = 0 }: S3Failure, tries: number): number {
    const firstMs = kind === 'throttled' ? THROTTLED_BACKOFF_MS : BACKOFF_MS;
    const mostMs = Math.min(BACKOFF_MS_MAX, firstMs * 2 ** Math.min(tries - 1, 20));
    // many who failed at the same moment must not come back at the same moment
    const ownMs = mostMs / 2 + (this.#timing.random() * mostMs) / 2;
    return Math.max(ownMs, Math.min(retryAfterMs, RETRY_AFTER_MS_MAX));
  }

  #load(): Promise<Aws> {
    this.#aws ??= load(this.#options, this.tally, this.#transport);
    return this.#aws;
  }
}

const isMistake = (cause: unknown): boolean =>
  (cause instanceof TypeError || cause instanceof ReferenceError || cause instanceof RangeError) &&
  !('$response' in cause) &&
  !('code' in cause);

/** Ends a try that takes too long: the SDK's request is aborted, and who waits for it is told even if that does not help. */
class Deadline {
  readonly #timing: Timing;
  readonly #abort = new AbortController();
  readonly #timeoutMs: number;
  readonly passed: Promise<never>;
  #fail: (failure: S3Failure) => void = () => undefined;
  #timer = new AbortController();

  constructor(timing: Timing, timeoutMs: number) {
    this.#timing = timing;
    this.#timeoutMs = timeoutMs;
    this.passed = new Promise<never>((_, reject) => {
      this.#fail = reject;
    });
    this.passed.catch(() => undefined);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** From now: the timeout, and the time that so many bytes may take. */
  allow(bytes: number): void {
    this.end();
    this.#timer = new AbortController();
    const ms = this.#timeoutMs + bytes / SLOWEST_BYTES_PER_MS;
    this.#timing.pause(ms, this.#timer.signal).then(
      () => {
        this.#fail(new S3Failure('away', 'timeout', `no answer within ${Math.round(ms)} ms`));
        this.#abort.abort();
      },
      () => undefined,
    );
  }

  end(): void {
    this.#timer.abort();
  }
}

async function load(options: S3Options, tally: RequestTally, transport: Transport | undefined): Promise<Aws> {
  const sdk = await import('@aws-sdk/client-s3');
  const { endpoint, region, profile, pathStyle, requestsMax, timeoutMs } = options;
  const agent = { keepAlive: true, maxSockets: requestsMax };
  const config: S3ClientConfig = {
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
    ...(profile === undefined ? {} : { profile }),
    forcePathStyle: pathStyle,
    maxAttempts: 1,
    // Objects carry checksums of their own. Many servers refuse those that the SDK sends by default, or ignore them.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
    requestHandler: transport ?? {
      connectionTimeout: Math.min(CONNECT_MS_MAX, timeoutMs),
      httpAgent: agent,
      httpsAgent: agent,
    },
  };
  const client = new sdk.S3Client(config);
  addContentMd5(client);
  countRequests(client, tally);
  return { sdk, client };
}

type Sending = { input: ServiceInputTypes; request: unknown };
type Answered = { output: ServiceOutputTypes; response: unknown };

/** DeleteObjects needs a checksum of its body; all servers know MD5, not all know the SDK's CRC32. */
function addContentMd5(client: S3Client): void {
  const withMd5 =
    (next: (args: Sending) => Promise<Answered>, { commandName }: { readonly commandName?: string }) =>
    (args: Sending): Promise<Answered> => {
      if (commandName === 'DeleteObjectsCommand') {
        const { headers, body } = args.request as HttpRequest;
        for (const name of Object.keys(headers))
          if (/^x-amz-(checksum-|sdk-checksum-)/i.test(name)) delete headers[name];
        headers['content-md5'] = createHash('md5')
          .update(body as string | Uint8Array)
          .digest('base64');
      }
      return next(args);
    };
  // after the SDK's own checksums, before the signature
  client.middlewareStack.add(withMd5, { step: 'build', priority: 'low', name: 'contentMd5', override: true });
}

/** The class in which a provider bills a command. */
const classOf = (command: string | undefined): 'puts' | 'gets' | 'deletes' => {
  if (/^(Delete|Abort)/.test(command ?? '')) return 'deletes';
  return /^(Put|Create|Upload|Complete|Copy|List)/.test(command ?? '') ? 'puts' : 'gets';
};

/** Each request that leaves, whatever becomes of it: the SDK repeats none. */
function countRequests(client: S3Client, tally: RequestTally): void {
  const counted =
    (next: (args: Sending) => Promise<Answered>, { commandName }: { readonly commandName?: string }) =>
    (args: Sending): Promise<Answered> => {
      const one: Partial<RequestCounts> = { [classOf(commandName)]: 1 };
      tally.add(one);
      return next(args);
    };
  client.middlewareStack.add(counted, {
    step: 'finalizeRequest',
    priority: 'low',
    name: 'tally',
    override: true,
  });
}
