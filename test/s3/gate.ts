/**
 * What the server of the tests lacks and real providers have: conditions on PUT, and a look at the checksums of what arrives.
 * One key is written by one request at a time, so that looking and writing are one step. Its quirks are those that real
 * providers were seen to have.
 */
import { type Answer, type Handler, type Message, md5, sha256, xmlError } from './http.ts';

export interface Quirks {
  /** Keys of one page of a listing at most; default 1,000. */
  readonly pageKeys?: number;
  /** Pages are made by fauxqs itself, which loses names between them: it sorts in one order and goes on in another. */
  readonly losesNames?: boolean;
  /** If-Match is compared with the ETag without quotes, as text. */
  readonly bareEtags?: boolean;
  /** Who loses a race gets 500 instead of 412. */
  readonly loserGets500?: boolean;
  /** Conditions are accepted and ignored. */
  readonly ignoresConditions?: boolean;
  /** Conditions are refused as something not implemented. */
  readonly refusesConditions?: boolean;
  /** Metadata of objects is not kept. */
  readonly forgetsMetadata?: boolean;
  /** Ranges are not known: a read gets everything. */
  readonly ignoresRanges?: boolean;
  /** Keys with this in them cannot be deleted. */
  readonly held?: string;
  /** Nor those, and answers do not mention them. */
  readonly passedOver?: string;
  /** The answer to the last step of an upload in parts has no ETag. */
  readonly noEtagOfParts?: boolean;
  /** Unfinished uploads may not be listed. */
  readonly hidesUploads?: boolean;
  /** Every request has this answer. */
  readonly always?: Answer;
  /** Lifecycle rules and object lock of the bucket, as XML. */
  readonly lifecycle?: string;
  readonly objectLock?: string;
  /** The provider's clock minus ours. */
  readonly aheadMs?: number;
}

export class Gate {
  /** Every message that came, in order. */
  readonly messages: Message[] = [];
  quirks: Quirks = {};
  /** Unfinished uploads, by id: the server cannot list them. */
  readonly uploads = new Map<string, { readonly bucket: string; readonly key: string }>();
  readonly #next: Handler;
  readonly #turns = new Map<string, Promise<unknown>>();
  readonly #waiting = new Map<string, number>();

  constructor(next: Handler) {
    this.#next = next;
  }

  readonly handle: Handler = async (message) => {
    this.messages.push(message);
    const { always, lifecycle, objectLock, aheadMs } = this.quirks;
    if (always) return always;
    const bad = damaged(message);
    if (bad) return bad;
    const xml = (body: string): Answer => ({
      status: 200,
      headers: { 'content-type': 'application/xml' },
      body: Buffer.from(body),
    });
    if (lifecycle !== undefined && message.url.includes('?lifecycle')) return xml(lifecycle);
    if (objectLock !== undefined && message.url.includes('?object-lock')) return xml(objectLock);
    const answer = await this.#answer(message);
    if (aheadMs === undefined) return answer;
    return { ...answer, headers: { ...answer.headers, date: new Date(Date.now() + aheadMs).toUTCString() } };
  };

  async #answer(message: Message): Promise<Answer> {
    const path = message.url.split('?')[0]!;
    const query = new URL(message.url, 'http://x').searchParams;
    if (message.method === 'GET' && query.get('list-type') === '2') return this.#list(message, query);
    if (message.method === 'GET' && query.has('uploads')) return this.#listUploads(path, query);
    if (message.method === 'POST' && query.has('delete')) return this.#deleteMany(message);
    if (message.method === 'PUT' && !query.has('partNumber'))
      return this.#inTurn(path, () => this.#put(message, path));
    if (message.method === 'GET' || message.method === 'HEAD') return this.#read(message);
    return this.#inTurn(path, async () => {
      const answer = await this.#next(message);
      this.#keepUploads(message, path, query, answer);
      const isEmptied = this.quirks.noEtagOfParts && message.method === 'POST' && query.has('uploadId');
      const body = Buffer.from(answer.body.toString().replace(/<ETag>.*?<\/ETag>/, ''));
      return isEmptied ? { ...answer, body } : answer;
    });
  }

  async #put(message: Message, path: string): Promise<Answer> {
    const { 'if-none-match': absent, 'if-match': wanted, ...headers } = message.headers;
    const hasCondition = absent !== undefined || wanted !== undefined;
    if (hasCondition && this.quirks.refusesConditions)
      return xmlError(
        501,
        'NotImplemented',
        'A header you provided implies functionality that is not implemented',
      );
    if (hasCondition && !this.quirks.ignoresConditions) {
      const isRace = (this.#waiting.get(path) ?? 0) > 1;
      const refusal = await this.#refusal(message, path, isRace, absent, wanted);
      if (refusal) return refusal;
    }
    const kept = this.quirks.forgetsMetadata
      ? Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith('x-amz-meta-')))
      : headers;
    return this.#next({ ...message, headers: kept });
  }

  async #refusal(
    { headers: { host } }: Message,
    path: string,
    isRace: boolean,
    absent: string | undefined,
    wanted: string | undefined,
  ): Promise<Answer | undefined> {
    const now = await this.#next({ method: 'HEAD', url: path, headers: { host }, body: Buffer.alloc(0) });
    const exists = now.status === 200;
    const etag = `${now.headers.etag}`;
    const unquoted = (text: string): string => text.replace(/^"(.*)"$/, '$1');
    const lost = (): Answer =>
      this.quirks.loserGets500 && isRace
        ? xmlError(500, 'InternalError')
        : xmlError(412, 'PreconditionFailed');
    if (absent !== undefined) return exists ? lost() : undefined;
    if (!exists) return xmlError(404, 'NoSuchKey');
    if (this.quirks.bareEtags && wanted === etag) return xmlError(412, 'PreconditionFailed');
    return unquoted(wanted!) === unquoted(etag) ? undefined : lost();
  }

  #read(message: Message): Promise<Answer> {
    const { range: _, ...headers } = message.headers;
    return this.#next(this.quirks.ignoresRanges ? { ...message, headers } : message);
  }

  async #list(message: Message, query: URLSearchParams): Promise<Answer> {
    const { pageKeys: most = 1000, losesNames } = this.quirks;
    if (losesNames) return this.#next(message);
    const path = message.url.split('?')[0];
    const pageKeys = Math.min(most, Number(query.get('max-keys') ?? most));
    const after = query.get('continuation-token') ?? '';
    query.delete('continuation-token');
    query.delete('max-keys');
    const answer = await this.#next({ ...message, url: `${path}?${query}` });
    if (answer.status !== 200) return answer;
    const all = (answer.body.toString().match(/<Contents>.*?<\/Contents>/gs) ?? [])
      .map((content) => ({ content, key: /<Key>(.*?)<\/Key>/.exec(content)![1]! }))
      .sort((a, b) => (a.key < b.key ? -1 : 1))
      .filter(({ key }) => key > after);
    const page = all.slice(0, pageKeys);
    const hasMore = all.length > page.length;
    const next = hasMore ? `<NextContinuationToken>${page.at(-1)!.key}</NextContinuationToken>` : '';
    const contents = page.map(({ content }) => content).join('');
    const body = `<ListBucketResult><IsTruncated>${hasMore}</IsTruncated>${next}${contents}</ListBucketResult>`;
    return { ...answer, body: Buffer.from(body) };
  }

  #keepUploads({ method }: Message, path: string, query: URLSearchParams, answer: Answer): void {
    if (answer.status >= 300) return;
    const [, id] = /<UploadId>(.*?)<\/UploadId>/.exec(answer.body.toString()) ?? [];
    const [, bucket = '', key = ''] = /^(\/[^/]+)\/(.*)$/.exec(path) ?? [];
    if (method === 'POST' && query.has('uploads') && id !== undefined)
      this.uploads.set(id, { bucket, key: decodeURIComponent(key) });
    // finished or given up
    else if (query.has('uploadId')) this.uploads.delete(`${query.get('uploadId')}`);
  }

  /** In the order of keys, then of ids; a page goes on after the markers. */
  #listUploads(path: string, query: URLSearchParams): Answer {
    if (this.quirks.hidesUploads) return xmlError(403, 'AccessDenied');
    const most = Math.min(this.quirks.pageKeys ?? 1000, Number(query.get('max-uploads') ?? 1000));
    const keyMarker = query.get('key-marker') ?? '';
    const idMarker = query.get('upload-id-marker');
    const isAfter = (key: string, id: string): boolean =>
      key > keyMarker || (key === keyMarker && idMarker !== null && id > idMarker);
    const all = [...this.uploads]
      .map(([id, { bucket, key }]) => ({ id, key, isHere: bucket === path.replace(/\/$/, '') }))
      .filter(
        ({ id, key, isHere }) => isHere && key.startsWith(query.get('prefix') ?? '') && isAfter(key, id),
      )
      .sort((a, b) => (a.key === b.key ? (a.id < b.id ? -1 : 1) : a.key < b.key ? -1 : 1));
    const page = all.slice(0, most);
    const last = page.at(-1);
    const next =
      all.length > page.length && last
        ? `<NextKeyMarker>${last.key}</NextKeyMarker><NextUploadIdMarker>${last.id}</NextUploadIdMarker>`
        : '';
    const uploads = page
      .map(({ key, id }) => `<Upload><Key>${key}</Key><UploadId>${id}</UploadId></Upload>`)
      .join('');
    const body = `<ListMultipartUploadsResult><Bucket>${path.split('/')[1]}</Bucket><IsTruncated>${next !== ''}</IsTruncated>${next}${uploads}</ListMultipartUploadsResult>`;
    return { status: 200, headers: { 'content-type': 'application/xml' }, body: Buffer.from(body) };
  }

  async #deleteMany(message: Message): Promise<Answer> {
    const { held, passedOver } = this.quirks;
    const objects = message.body.toString().match(/<Object>.*?<\/Object>/gs) ?? [];
    const isHeld = (object: string): boolean => held !== undefined && object.includes(held);
    const isPassedOver = (object: string): boolean => passedOver !== undefined && object.includes(passedOver);
    const free = objects.filter((object) => !isHeld(object) && !isPassedOver(object));
    const body = Buffer.from(`<Delete>${free.join('')}</Delete>`);
    const answer = await this.#next({ ...message, body });
    const errors = objects.filter(isHeld).map((object) => {
      const [, key] = /<Key>(.*?)<\/Key>/.exec(object) ?? [];
      return `<Error><Key>${key}</Key><Code>AccessDenied</Code><Message>held</Message></Error>`;
    });
    return {
      ...answer,
      body: Buffer.from(
        answer.body.toString().replace('</DeleteResult>', `${errors.join('')}</DeleteResult>`),
      ),
    };
  }

  async #inTurn(path: string, run: () => Promise<Answer>): Promise<Answer> {
    this.#waiting.set(path, (this.#waiting.get(path) ?? 0) + 1);
    const mine = (this.#turns.get(path) ?? Promise.resolve()).then(run, run);
    this.#turns.set(
      path,
      mine.catch(() => undefined),
    );
    try {
      return await mine;
    } finally {
      this.#waiting.set(path, this.#waiting.get(path)! - 1);
    }
  }
}

/** Providers compare what arrived with the checksums that were signed. */
function damaged({ headers, body }: Message): Answer | undefined {
  const signed = headers['x-amz-content-sha256'];
  if (typeof signed === 'string' && /^[0-9a-f]{64}$/.test(signed) && signed !== sha256(body))
    return xmlError(400, 'XAmzContentSHA256Mismatch');
  const sum = headers['content-md5'];
  return sum !== undefined && sum !== md5(body) ? xmlError(400, 'BadDigest') : undefined;
}
