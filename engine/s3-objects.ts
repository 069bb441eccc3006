/** Single operations on the keys of a bucket. An answer that lacks what the protocol says it has is no answer: {@link S3Failure}. */
import { crc32 } from 'node:zlib';
import type { GetObjectCommandOutput, PutObjectCommandInput } from '@aws-sdk/client-s3';
import { giveBack } from './give-back.ts';
import { failureOf, S3Failure } from './s3-failure.ts';
import type { S3Options } from './s3-options.ts';
import type { Try } from './s3-requests.ts';

/** Metadata of every object: CRC-32 of the content in hex, and who wrote it. */
export interface Label {
  readonly crc32?: string;
  /** Fresh for each object: tells a writer whose answer got lost what it wrote. */
  readonly attempt?: string;
  /** The name is taken, the content is on its way in parts. */
  readonly isPending?: boolean;
}

export interface Found {
  readonly bytes: number;
  readonly etag: string;
  readonly label: Label;
}

export interface Content extends Found {
  /** The bytes asked for. */
  readonly content: Buffer;
}

export type Condition = { readonly absent: true } | { readonly etag: string };

/** A key that a deletion did not remove. */
export interface NotRemoved {
  readonly key: string;
  readonly failure: S3Failure;
}

export interface Page {
  readonly objects: readonly { readonly key: string; readonly bytes: number }[];
  /** Undefined: this was the last page. */
  readonly next: string | undefined;
}

/** Of a whole object in one read; segments are read in ranges. */
const CONTENT_BYTES_MAX = 2 ** 31;

const labelOf = (metadata: Record<string, string> | undefined): Label => ({
  ...(metadata?.['pitr-crc32'] === undefined ? {} : { crc32: metadata['pitr-crc32'] }),
  ...(metadata?.['pitr-attempt'] === undefined ? {} : { attempt: metadata['pitr-attempt'] }),
  ...(metadata?.['pitr-pending'] === undefined ? {} : { isPending: true }),
});

export const metadataOf = ({ crc32: crc, attempt, isPending }: Label): Record<string, string> => ({
  ...(crc === undefined ? {} : { 'pitr-crc32': crc }),
  ...(attempt === undefined ? {} : { 'pitr-attempt': attempt }),
  ...(isPending ? { 'pitr-pending': '1' } : {}),
});

export const crcOf = (bytes: Uint8Array): string => crc32(bytes).toString(16).padStart(8, '0');

/** Storage class and encryption of what is written under a name of the archive. */
export const storageOf = (
  { storageClasses, encryption }: S3Options,
  name: string,
): Pick<PutObjectCommandInput, 'StorageClass' | 'ServerSideEncryption' | 'SSEKMSKeyId'> => {
  const storageClass = storageClasses.get(name.split('/')[0]!);
  return {
    ...(storageClass === undefined
      ? {}
      : { StorageClass: storageClass as NonNullable<PutObjectCommandInput['StorageClass']> }),
    ...(encryption === undefined ? {} : { ServerSideEncryption: encryption.algorithm }),
    ...(encryption?.keyId === undefined ? {} : { SSEKMSKeyId: encryption.keyId }),
  };
};

const nonsense = (what: string): S3Failure => new S3Failure('away', 'nonsense', what);

/** One PUT. Gives the ETag. */
export const put = async (
  { sdk, client, signal }: Try,
  input: Pick<PutObjectCommandInput, 'Bucket' | 'Key' | 'Body'> & Partial<PutObjectCommandInput>,
  condition: Condition | undefined,
): Promise<string> => {
  const command = new sdk.PutObjectCommand({
    ContentType: 'application/octet-stream',
    ...input,
    ...(condition === undefined
      ? {}
      : 'absent' in condition
        ? { IfNoneMatch: '*' }
        : { IfMatch: condition.etag }),
  });
  const { ETag } = await client.send(command, { abortSignal: signal });
  if (!ETag) throw nonsense('a write was answered without an ETag');
  return ETag;
};

/** The answer cannot say whether the object is missing or the bucket. */
export const head = async ({ sdk, client, signal }: Try, Bucket: string, Key: string): Promise<Found> => {
  const command = new sdk.HeadObjectCommand({ Bucket, Key });
  const { ContentLength, ETag, Metadata } = await client.send(command, { abortSignal: signal });
  if (ContentLength === undefined || !ETag) throw nonsense('HEAD was answered without length or ETag');
  return { bytes: ContentLength, etag: ETag, label: labelOf(Metadata) };
};

export interface ByteRange {
  readonly start: number;
  readonly end?: number;
}

/** The whole object, or a range of it that is not empty. */
export const get = async (
  attempt: Try,
  Bucket: string,
  Key: string,
  range: ByteRange | undefined,
): Promise<Content> => {
  const { sdk, client, signal } = attempt;
  const isWhole = range === undefined || (range.start === 0 && range.end === undefined);
  const command = new sdk.GetObjectCommand({ Bucket, Key, ...(isWhole ? {} : { Range: headerOf(range) }) });
  const answer = await client.send(command, { abortSignal: signal });
  const label = labelOf(answer.Metadata);
  if (!answer.ETag) throw nonsense('a read was answered without an ETag');
  const part = isWhole ? undefined : partOf(answer, range);
  const body = await collect(attempt, answer, part ? part.end - part.start : undefined);
  // A server that knows no ranges sends everything.
  const content = isWhole || part ? body : cut(body, range);
  const wholeBytes = part?.total ?? body.length;
  if (!part && label.crc32 !== undefined && crcOf(body) !== label.crc32)
    throw new S3Failure('corrupt', 'crc32', `content has CRC-32 ${crcOf(body)}, written was ${label.crc32}`);
  return { content, bytes: wholeBytes, etag: answer.ETag, label };
};

const headerOf = ({ start, end }: ByteRange): string =>
  start < 0 ? `bytes=${start}` : `bytes=${start}-${end === undefined ? '' : end - 1}`;

/** What part of the object came, when the answer says so. */
function partOf(
  { ContentRange }: GetObjectCommandOutput,
  { start, end = Number.MAX_SAFE_INTEGER }: ByteRange,
): { start: number; end: number; total: number } | undefined {
  if (ContentRange === undefined) return undefined;
  const [, first, last, size] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(ContentRange) ?? [];
  const part = { start: Number(first), end: Number(last) + 1, total: Number(size) };
  const wantedStart = start < 0 ? Math.max(0, part.total + start) : start;
  const wantedEnd = Math.min(start < 0 ? part.total : end, part.total);
  if (part.start !== wantedStart || part.end !== wantedEnd)
    throw nonsense(`asked for ${headerOf({ start, end })}, was given ${ContentRange}`);
  return part;
}

const cut = (body: Buffer, { start, end }: ByteRange): Buffer =>
  start < 0 ? body.subarray(Math.max(0, body.length + start)) : body.subarray(start, end);

/** All of a body, which must have the length that the answer stated. */
async function collect(
  attempt: Try,
  { Body, ContentLength }: GetObjectCommandOutput,
  expectedBytes: number | undefined,
): Promise<Buffer> {
  const bytes = expectedBytes ?? ContentLength;
  if (bytes === undefined || (ContentLength !== undefined && ContentLength !== bytes))
    throw nonsense(`a body of ${ContentLength} bytes, expected ${expectedBytes}`);
  if (bytes > CONTENT_BYTES_MAX) throw new S3Failure('refused', 'too-large', `an object of ${bytes} bytes`);
  attempt.expects(bytes);
  const into = Buffer.allocUnsafe(bytes);
  let at = 0;
  for await (const chunk of (Body ?? []) as AsyncIterable<Uint8Array>) {
    if (at + chunk.length > bytes) throw nonsense('a body longer than stated');
    into.set(chunk, at);
    at += chunk.length;
    // a copy that the parser made for us: megabytes a moment, which the collector would notice late
    giveBack([chunk]);
  }
  attempt.came(at);
  if (at < bytes) throw nonsense(`a body that ends after ${at} of ${bytes} bytes`);
  return into;
}

export const list = async (
  { sdk, client, signal }: Try,
  Bucket: string,
  Prefix: string,
  ContinuationToken: string | undefined,
  MaxKeys?: number,
): Promise<Page> => {
  const command = new sdk.ListObjectsV2Command({
    Bucket,
    Prefix,
    ...(ContinuationToken === undefined ? {} : { ContinuationToken }),
    ...(MaxKeys === undefined ? {} : { MaxKeys }),
  });
  const answer = await client.send(command, { abortSignal: signal }).catch((cause) => {
    const { kind, code, message, status } = failureOf(cause);
    if (kind !== 'missing') throw cause;
    // a listing of nothing is empty: what is missing is the bucket
    throw new S3Failure('bucket', code, message, { cause, ...(status === undefined ? {} : { status }) });
  });
  const { Contents = [], IsTruncated, NextContinuationToken } = answer;
  // Without this an error that arrives as "done" would look like an empty listing.
  if (IsTruncated === undefined)
    throw nonsense('a listing was answered without saying whether there is more');
  if (IsTruncated && !NextContinuationToken) throw nonsense('a listing has more and does not say where');
  if (IsTruncated && NextContinuationToken === ContinuationToken) throw nonsense('a listing does not go on');
  const objects = Contents.map(({ Key, Size }) => {
    if (!Key?.startsWith(Prefix) || Size === undefined)
      throw nonsense('a listing has what was not asked for');
    return { key: Key, bytes: Size };
  });
  return { objects, next: IsTruncated ? NextContinuationToken : undefined };
};

/** At most 1,000 keys. Every key that the answer does not confirm counts as not removed. */
export const remove = async (
  { sdk, client, signal }: Try,
  Bucket: string,
  keys: readonly string[],
): Promise<NotRemoved[]> => {
  const command = new sdk.DeleteObjectsCommand({ Bucket, Delete: { Objects: keys.map((Key) => ({ Key })) } });
  const { Deleted = [], Errors = [] } = await client.send(command, { abortSignal: signal });
  const gone = new Set(Deleted.map(({ Key }) => Key));
  const said = new Map(Errors.map((error) => [error.Key, error]));
  if (Deleted.length + Errors.length === 0) throw nonsense('a deletion was answered without results');
  return keys
    .filter((key) => !gone.has(key) && said.get(key)?.Code !== 'NoSuchKey')
    .map((key) => {
      const { Code = 'unconfirmed', Message = 'the answer does not mention it' } = said.get(key) ?? {};
      return { key, failure: removalFailure(Code, Message) };
    });
};

const removalFailure = (code: string, message: string): S3Failure =>
  new S3Failure(
    /AccessDenied/.test(code)
      ? 'denied'
      : /InternalError|SlowDown|unconfirmed/.test(code)
        ? 'away'
        : 'refused',
    code,
    message,
  );
