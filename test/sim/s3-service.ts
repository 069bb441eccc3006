/**
 * An S3 server in memory, with the habits of real ones: conditions on single PUTs only, the signed SHA-256 and Content-MD5 of what
 * arrives are checked, pages of listings are short, an upload in parts forgets its id when it is done. It knows no network:
 * s3-network.ts decides what arrives, when, how often, and what comes back.
 */
import { createHash } from 'node:crypto';

/** As it arrives: names of headers in lower case. */
export interface Message {
  readonly method: string;
  /** Without the bucket. */
  readonly key: string;
  readonly query: Readonly<Record<string, string | null>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** In what ways providers differ. */
export interface Habits {
  readonly pageKeys: number;
  /** The last step of an upload in parts has an ETag in its answer. */
  readonly saysEtagOfParts: boolean;
  /** Ranges are not known: a read gets everything. */
  readonly ignoresRanges: boolean;
}

interface Stored {
  readonly bytes: Buffer;
  readonly etag: string;
  readonly metadata: Readonly<Record<string, string>>;
}

interface Upload {
  readonly key: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly parts: Map<number, { readonly bytes: Buffer; readonly etag: string }>;
}

const hash = (algorithm: string, bytes: Buffer): Buffer => createHash(algorithm).update(bytes).digest();

export const xml = (status: number, body: string): Answer => ({
  status,
  headers: { 'content-type': 'application/xml' },
  body: Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n${body}`),
});

export const xmlError = (status: number, code: string, headers: Record<string, string> = {}): Answer => {
  const answer = xml(status, `<Error><Code>${code}</Code><Message>${code}</Message></Error>`);
  return { ...answer, headers: { ...answer.headers, ...headers } };
};

const empty = (status: number, headers: Record<string, string> = {}): Answer => ({
  status,
  headers,
  body: Buffer.alloc(0),
});

const metadataIn = (headers: Message['headers']): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith('x-amz-meta-')));

const between = (text: string, tag: string): string[] =>
  [...text.matchAll(new RegExp(`<${tag}>(.*?)</${tag}>`, 'gs'))].map(([, inner]) => inner);

export class S3Service {
  readonly objects = new Map<string, Stored>();
  readonly uploads = new Map<string, Upload>();
  /** Told about each object that is there now, before its writer is, and about each key that goes. */
  onPut: (key: string, bytes: Buffer) => void = () => undefined;
  onDelete: (key: string) => void = () => undefined;
  readonly #habits: Habits;
  #uploadCount = 0;

  constructor(habits: Habits) {
    this.#habits = habits;
  }

  /** `refused`: keys whose deletion fails this time. */
  answer(message: Message, refused: (key: string) => boolean = () => false): Answer {
    const { method, key, query } = message;
    const bad = this.#damage(message);
    if (bad) return bad;
    if (method === 'GET' && 'list-type' in query) return this.#list(query);
    if (method === 'GET' && 'uploads' in query) return this.#listUploads(query);
    if (method === 'POST' && 'delete' in query) return this.#deleteMany(message, refused);
    if (method === 'POST' && 'uploads' in query) return this.#begin(message);
    if (query.uploadId) return this.#upload(message, query.uploadId);
    if (method === 'PUT') return this.#put(message);
    if (method === 'GET' || method === 'HEAD') return this.#read(message);
    if (method === 'DELETE') {
      this.remove(key);
      return empty(204);
    }
    return xmlError(501, 'NotImplemented');
  }

  put(key: string, stored: Stored): void {
    this.objects.set(key, stored);
    this.onPut(key, stored.bytes);
  }

  remove(key: string): void {
    if (this.objects.delete(key)) this.onDelete(key);
  }

  #damage({ headers, body }: Message): Answer | undefined {
    const sha = headers['x-amz-content-sha256'];
    if (sha !== undefined && hash('sha256', body).toString('hex') !== sha)
      return xmlError(400, 'XAmzContentSHA256Mismatch');
    const md5 = headers['content-md5'];
    return md5 !== undefined && hash('md5', body).toString('base64') !== md5
      ? xmlError(400, 'BadDigest')
      : undefined;
  }

  #put({ key, headers, body }: Message): Answer {
    const now = this.objects.get(key);
    if (headers['if-none-match'] === '*' && now) return xmlError(412, 'PreconditionFailed');
    const wanted = headers['if-match'];
    if (wanted !== undefined && !now) return xmlError(404, 'NoSuchKey');
    if (wanted !== undefined && wanted !== now?.etag) return xmlError(412, 'PreconditionFailed');
    const etag = `"${hash('md5', body).toString('hex')}"`;
    this.put(key, { bytes: Buffer.from(body), etag, metadata: metadataIn(headers) });
    return empty(200, { etag });
  }

  #read({ method, key, headers }: Message): Answer {
    const found = this.objects.get(key);
    if (!found) return method === 'HEAD' ? empty(404) : xmlError(404, 'NoSuchKey');
    const { bytes, etag, metadata } = found;
    const common = { etag, 'accept-ranges': 'bytes', ...metadata };
    const whole = { ...common, 'content-length': String(bytes.length) };
    if (method === 'HEAD') return empty(200, whole);
    const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(headers.range ?? '') ?? [];
    if ((first === '' && last === '') || this.#habits.ignoresRanges)
      return { status: 200, headers: whole, body: Buffer.from(bytes) };
    const start = first === '' ? Math.max(0, bytes.length - Number(last)) : Number(first);
    const end = first === '' || last === '' ? bytes.length : Math.min(bytes.length, Number(last) + 1);
    if (start >= bytes.length) return xmlError(416, 'InvalidRange');
    return {
      status: 206,
      headers: {
        ...common,
        'content-length': String(end - start),
        'content-range': `bytes ${start}-${end - 1}/${bytes.length}`,
      },
      body: Buffer.from(bytes.subarray(start, end)),
    };
  }

  #list(query: Message['query']): Answer {
    const prefix = query.prefix ?? '';
    const token = query['continuation-token'];
    const after = token ? Buffer.from(token, 'base64url').toString() : '';
    const most = Math.min(this.#habits.pageKeys, Number(query['max-keys'] ?? 1000));
    const all = [...this.objects.keys()].filter((k) => k.startsWith(prefix) && k > after).sort();
    const page = all.slice(0, most);
    const hasMore = all.length > page.length;
    const contents = page.map((k) => {
      const { bytes, etag } = this.objects.get(k) as Stored;
      return `<Contents><Key>${k}</Key><ETag>${etag}</ETag><Size>${bytes.length}</Size></Contents>`;
    });
    const next = hasMore
      ? `<NextContinuationToken>${Buffer.from(page.at(-1) ?? '').toString('base64url')}</NextContinuationToken>`
      : '';
    return xml(
      200,
      `<ListBucketResult><KeyCount>${page.length}</KeyCount><IsTruncated>${hasMore}</IsTruncated>${next}${contents.join('')}</ListBucketResult>`,
    );
  }

  /** By key, then by id. */
  #listUploads(query: Message['query']): Answer {
    const prefix = query.prefix ?? '';
    const after = `${query['key-marker'] ?? ''}\0${query['upload-id-marker'] ?? ''}`;
    const all = [...this.uploads]
      .map(([id, { key }]) => ({ id, key, at: `${key}\0${id}` }))
      .filter(({ key, at }) => key.startsWith(prefix) && at > after)
      .sort((a, b) => (a.at < b.at ? -1 : 1));
    const page = all.slice(0, this.#habits.pageKeys);
    const last = page.at(-1);
    const hasMore = all.length > page.length;
    const next =
      hasMore && last
        ? `<NextKeyMarker>${last.key}</NextKeyMarker><NextUploadIdMarker>${last.id}</NextUploadIdMarker>`
        : '';
    const uploads = page.map(({ id, key }) => `<Upload><Key>${key}</Key><UploadId>${id}</UploadId></Upload>`);
    return xml(
      200,
      `<ListMultipartUploadsResult><Bucket>sim</Bucket><IsTruncated>${hasMore}</IsTruncated>${next}${uploads.join('')}</ListMultipartUploadsResult>`,
    );
  }

  #deleteMany({ body }: Message, refused: (key: string) => boolean): Answer {
    const results = between(body.toString(), 'Key').map((key) => {
      if (refused(key)) return `<Error><Key>${key}</Key><Code>InternalError</Code></Error>`;
      this.remove(key);
      return `<Deleted><Key>${key}</Key></Deleted>`;
    });
    return xml(200, `<DeleteResult>${results.join('')}</DeleteResult>`);
  }

  #begin({ key, headers }: Message): Answer {
    const id = `upload-${++this.#uploadCount}`;
    this.uploads.set(id, { key, metadata: metadataIn(headers), parts: new Map() });
    return xml(
      200,
      `<InitiateMultipartUploadResult><Key>${key}</Key><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`,
    );
  }

  #upload({ method, query, body }: Message, id: string): Answer {
    const upload = this.uploads.get(id);
    if (!upload) return xmlError(404, 'NoSuchUpload');
    if (method === 'DELETE') {
      this.uploads.delete(id);
      return empty(204);
    }
    if (method === 'PUT') {
      const etag = `"${hash('md5', body).toString('hex')}"`;
      upload.parts.set(Number(query.partNumber), { bytes: Buffer.from(body), etag });
      return empty(200, { etag });
    }
    return this.#complete(id, upload, body.toString());
  }

  #complete(id: string, { key, metadata, parts }: Upload, text: string): Answer {
    const numbers = between(text, 'PartNumber').map(Number);
    const etags = between(text, 'ETag').map((e) => e.replaceAll('&quot;', '"'));
    const chosen = numbers.map((n) => parts.get(n));
    if (chosen.length === 0 || chosen.some((part, i) => part?.etag !== etags[i]))
      return xmlError(400, 'InvalidPart');
    const bytes = Buffer.concat(chosen.map((part) => part?.bytes ?? Buffer.alloc(0)));
    const etag = `"${hash('md5', bytes).toString('hex')}-${chosen.length}"`;
    this.uploads.delete(id);
    this.put(key, { bytes, etag, metadata });
    return xml(
      200,
      `<CompleteMultipartUploadResult><Key>${key}</Key>${this.#habits.saysEtagOfParts ? `<ETag>${etag}</ETag>` : ''}</CompleteMultipartUploadResult>`,
    );
  }
}
