/** What went wrong with one request, and what that means: the table of all answers that S3 servers give. */
import { type ErrorId, type Facts, PitrError } from './errors.ts';

/**
 * - `missing` no such object · `condition` the condition did not hold (412) · `conflict` somebody else at the same moment (409)
 * - `range` nothing of the range exists (416)
 * - `corrupt` what arrived is not what was sent: either side can have noticed
 * - `throttled`, `away` it may go better later
 * - `denied`, `skewed`, `bucket`, `elsewhere`, `unsupported`, `refused` the same request will fail the same way
 */
export type FailureKind =
  | 'missing'
  | 'condition'
  | 'conflict'
  | 'range'
  | 'corrupt'
  | 'throttled'
  | 'away'
  | 'denied'
  | 'skewed'
  | 'bucket'
  | 'elsewhere'
  | 'unsupported'
  | 'refused';

/** One try of a request that did not do what it should. */
export class S3Failure extends Error {
  readonly kind: FailureKind;
  readonly status: number | undefined;
  /** The provider's own word, or the system's. */
  readonly code: string;
  readonly retryAfterMs: number | undefined;
  /** Where the bucket is, when it is elsewhere. */
  readonly region: string | undefined;

  constructor(
    kind: FailureKind,
    code: string,
    message: string,
    more: { status?: number; retryAfterMs?: number; region?: string; cause?: unknown } = {},
  ) {
    super(message, { cause: more.cause });
    this.name = 'S3Failure';
    this.kind = kind;
    this.code = code;
    this.status = more.status;
    this.retryAfterMs = more.retryAfterMs;
    this.region = more.region;
  }

  /** The same request may succeed later. */
  get isPassing(): boolean {
    return PASSING.has(this.kind);
  }

  /** The request may have had its effect all the same: an answer got lost, or is nonsense, or is that of a second delivery. */
  get isUnclear(): boolean {
    return UNCLEAR.has(this.kind);
  }
}

const PASSING: ReadonlySet<FailureKind> = new Set(['corrupt', 'throttled', 'away', 'conflict', 'skewed']);
const UNCLEAR: ReadonlySet<FailureKind> = new Set(['corrupt', 'throttled', 'away', 'conflict', 'condition']);

/** By the provider's word, which says more than the status. */
const KIND_OF_CODE: Readonly<Record<string, FailureKind>> = {
  NoSuchKey: 'missing',
  NotFound: 'missing',
  NoSuchBucket: 'bucket',
  PreconditionFailed: 'condition',
  ConditionalRequestConflict: 'conflict',
  OperationAborted: 'conflict',
  InvalidRange: 'range',
  SlowDown: 'throttled',
  ServiceUnavailable: 'throttled',
  Throttling: 'throttled',
  ThrottlingException: 'throttled',
  RequestLimitExceeded: 'throttled',
  TooManyRequests: 'throttled',
  TooManyRequestsException: 'throttled',
  RequestTimeout: 'away',
  InternalError: 'away',
  BadDigest: 'corrupt',
  InvalidDigest: 'corrupt',
  IncompleteBody: 'corrupt',
  XAmzContentSHA256Mismatch: 'corrupt',
  AccessDenied: 'denied',
  AllAccessDisabled: 'denied',
  ExpiredToken: 'denied',
  InvalidAccessKeyId: 'denied',
  InvalidToken: 'denied',
  SignatureDoesNotMatch: 'denied',
  CredentialsProviderError: 'denied',
  TokenRefreshRequired: 'denied',
  RequestTimeTooSkewed: 'skewed',
  PermanentRedirect: 'elsewhere',
  AuthorizationHeaderMalformed: 'elsewhere',
  IllegalLocationConstraintException: 'elsewhere',
  NotImplemented: 'unsupported',
};

const kindOfStatus = (status: number): FailureKind => {
  if (status === 404) return 'missing';
  if (status === 412) return 'condition';
  if (status === 409) return 'conflict';
  if (status === 416) return 'range';
  if (status === 429 || status === 503) return 'throttled';
  if (status === 408 || (status >= 500 && status !== 501)) return 'away';
  if (status === 501) return 'unsupported';
  if (status === 401 || status === 403) return 'denied';
  if (status === 301 || status === 307 || status === 308) return 'elsewhere';
  // an answer that says "done" and does not read as one
  if (status < 300) return 'away';
  return 'refused';
};

/** What the SDK throws, as far as it is of use. */
interface Thrown {
  readonly name?: string;
  readonly code?: string;
  readonly Code?: string;
  readonly message?: string;
  readonly Region?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $response?: {
    readonly statusCode?: number;
    readonly headers?: Readonly<Record<string, string | undefined>>;
  };
}

export function failureOf(cause: unknown): S3Failure {
  if (cause instanceof S3Failure) return cause;
  const thrown = (typeof cause === 'object' && cause !== null ? cause : {}) as Thrown;
  const { $response } = thrown;
  const status = thrown.$metadata?.httpStatusCode ?? $response?.statusCode;
  const code =
    thrown.Code ?? (thrown.name && thrown.name !== 'Error' ? thrown.name : thrown.code) ?? 'unknown';
  const message = thrown.message ?? String(cause);
  const known = Object.hasOwn(KIND_OF_CODE, code) ? KIND_OF_CODE[code] : undefined;
  // without a status nothing was answered: the network, or a timeout of ours
  const kind = known ?? (status === undefined ? kindOfLocal(message) : kindOfStatus(status));
  const seconds = Number($response?.headers?.['retry-after']);
  const region = thrown.Region ?? $response?.headers?.['x-amz-bucket-region'];
  return new S3Failure(kind, code, message, {
    cause,
    ...(status === undefined ? {} : { status }),
    ...(seconds >= 0 ? { retryAfterMs: seconds * 1000 } : {}),
    ...(region === undefined ? {} : { region }),
  });
}

/** Complaints of the SDK itself, before it has sent anything. */
const kindOfLocal = (message: string): FailureKind =>
  /region is missing/i.test(message)
    ? 'elsewhere'
    : /could not load credentials|profile|credential/i.test(message)
      ? 'denied'
      : 'away';

const ID_OF_KIND: Readonly<Record<FailureKind, ErrorId>> = {
  missing: 'object-not-found',
  condition: 'cas-conflict',
  conflict: 'archive-away',
  range: 'archive-refused',
  corrupt: 'object-corrupt',
  throttled: 'archive-throttled',
  away: 'archive-away',
  denied: 'archive-denied',
  skewed: 'clock-skew',
  bucket: 'bucket-unknown',
  elsewhere: 'bucket-elsewhere',
  unsupported: 'archive-refused',
  refused: 'archive-refused',
};

/** The failure as everybody else is told of it. `facts` has what was done to what: op, name, url, bucket. */
export function errorOf(failure: S3Failure, facts: Facts): PitrError {
  const { code, status, message, region } = failure;
  const why = [code, status, message === code || message === 'UnknownError' ? '' : message]
    .filter((part) => part !== undefined && part !== '')
    .join(' ');
  return new PitrError(
    ID_OF_KIND[failure.kind],
    { ...facts, why: why.slice(0, 500), ...(region === undefined ? {} : { region }) },
    { cause: failure },
  );
}
