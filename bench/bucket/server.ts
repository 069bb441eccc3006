/**
 * A stand-in for object storage: the part of S3's protocol that pitr uses, in memory, in a process of its own. It keeps what the
 * protocol promises about conditions, ranges, listings and uploads in parts, checks no signature, and answers each request as late
 * as it is told to, by a timer. Figures taken against it are those of pitr, the SDK and the loopback interface, not of a provider.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JobContext } from '../../cli/bench/child.ts';
import { jobOf } from '../../cli/bench/isolate.ts';
import { Bucket, type Refusal, type Stored } from './bucket.ts';
import { addTo, emptyTraffic, type Kind, type Traffic } from './traffic.ts';

/** Requests below this path are for the server itself. */
export const CONTROL = '/-/';

export interface ServerFigures extends Traffic {
  /** Since the start of the process. */
  readonly cpuSeconds: number;
}

/** A value that was written below `heads/`: when it could be read, and its bytes in base64. */
export interface HeadWritten {
  readonly key: string;
  readonly atMs: number;
  readonly value: string;
}

class Server {
  readonly #bucket = new Bucket();
  #traffic = emptyTraffic();
  #latencyMs = 0;
  #onTheirWay = 0;
  #heads: HeadWritten[] = [];

  readonly answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await bodyOf(request);
    const url = new URL(request.url ?? '/', 'http://x');
    if (url.pathname.startsWith(CONTROL)) return this.#control(url, response);
    if (this.#onTheirWay++ === 0) this.#traffic.waves++;
    // before the effect: a late request is not there yet
    if (this.#latencyMs > 0) await sleep(this.#latencyMs);
    this.#onTheirWay--;
    // path style: /bucket/key
    const [, key = ''] = /^\/[^/]+\/?(.*)$/.exec(decodeURIComponent(url.pathname)) ?? [];
    const { kind, send, bytes } = this.#handle(request, url.searchParams, key, body);
    addTo(this.#traffic, kind, body.length, bytes);
    send(response);
  };

  #control({ pathname, searchParams }: URL, response: ServerResponse): void {
    switch (pathname.slice(CONTROL.length)) {
      case 'begin':
        this.#latencyMs = Number(searchParams.get('latencyMs'));
        this.#traffic = emptyTraffic();
        this.#heads = [];
        break;
      case 'empty':
        this.#bucket.empty();
        break;
      case 'heads':
        response.end(JSON.stringify(this.#heads));
        return;
    }
    const { user, system } = process.cpuUsage();
    response.end(JSON.stringify({ ...this.#traffic, cpuSeconds: (user + system) / 1e6 }));
  }

  #handle(request: IncomingMessage, query: URLSearchParams, key: string, body: Buffer): Handled {
    const { method, headers } = request;
    const metadata = Object.fromEntries(
      Object.entries(headers).filter(([name]) => name.startsWith('x-amz-meta-')),
    );
    const uploadId = query.get('uploadId');
    switch (method) {
      case 'PUT': {
        if (uploadId !== null)
          return wrote('put', this.#bucket.putPart(uploadId, Number(query.get('partNumber')), body));
        const { 'if-none-match': absent, 'if-match': etag } = headers;
        const put = this.#bucket.put(key, body, metadata, { isAbsent: absent !== undefined, etag });
        if (typeof put !== 'string' && key.includes('/heads/'))
          this.#heads.push({ key, atMs: Date.now(), value: body.toString('base64') });
        return wrote('put', put);
      }
      case 'POST': {
        if (query.has('delete')) return this.#remove(body);
        if (uploadId === null)
          return xml('upload', `<UploadId>${this.#bucket.begin(key, metadata)}</UploadId>`);
        const done = this.#bucket.complete(key, uploadId);
        return typeof done === 'string'
          ? refused('upload', done)
          : xml('upload', `<ETag>${done.etag}</ETag>`);
      }
      case 'DELETE':
        if (uploadId !== null) this.#bucket.abort(uploadId);
        else this.#bucket.remove(key);
        return { kind: 'delete', bytes: 0, send: (response) => void response.writeHead(204).end() };
      case 'GET':
        if (query.has('list-type')) return this.#list(query);
        if (query.has('uploads')) return this.#listUploads(query.get('prefix') ?? '');
        return read('get', this.#bucket.get(key), headers.range);
      case 'HEAD':
        return read('head', this.#bucket.get(key), undefined);
      default:
        return refused('get', 'MethodNotAllowed');
    }
  }

  #remove(body: Buffer): Handled {
    const keys = [...body.toString().matchAll(/<Key>(.*?)<\/Key>/gs)].map(([, key]) => key);
    for (const key of keys) this.#bucket.remove(key);
    return xml('delete', keys.map((key) => `<Deleted><Key>${key}</Key></Deleted>`).join(''), 'DeleteResult');
  }

  #list(query: URLSearchParams): Handled {
    const { keys, next } = this.#bucket.list(
      query.get('prefix') ?? '',
      query.get('continuation-token') ?? '',
      Number(query.get('max-keys') ?? 1000),
    );
    const token = next === undefined ? '' : `<NextContinuationToken>${next}</NextContinuationToken>`;
    const contents = keys.map(
      ({ key, bytes }) => `<Contents><Key>${key}</Key><Size>${bytes}</Size></Contents>`,
    );
    const parts = `<IsTruncated>${next !== undefined}</IsTruncated>${token}${contents.join('')}`;
    return xml('list', parts, 'ListBucketResult');
  }

  #listUploads(prefix: string): Handled {
    const uploads = this.#bucket
      .uploads(prefix)
      .map(({ key, id }) => `<Upload><Key>${key}</Key><UploadId>${id}</UploadId></Upload>`);
    return xml('list', `<IsTruncated>false</IsTruncated>${uploads.join('')}`, 'ListMultipartUploadsResult');
  }
}

interface Handled {
  readonly kind: Kind;
  /** Of the answer's body. */
  readonly bytes: number;
  readonly send: (response: ServerResponse) => void;
}

const STATUS: Readonly<Record<Refusal, number>> = {
  NoSuchKey: 404,
  NoSuchUpload: 404,
  MethodNotAllowed: 405,
  PreconditionFailed: 412,
  InvalidRange: 416,
};

const refused = (kind: Kind, code: Refusal): Handled => ({
  kind,
  bytes: 0,
  send: (response) =>
    void response
      .writeHead(STATUS[code], { 'content-type': 'application/xml' })
      .end(`<Error><Code>${code}</Code><Message>${code}</Message></Error>`),
});

const wrote = (kind: Kind, put: Stored | Refusal): Handled =>
  typeof put === 'string'
    ? refused(kind, put)
    : { kind, bytes: 0, send: (response) => void response.writeHead(200, { etag: put.etag }).end() };

const xml = (kind: Kind, inner: string, root = 'Result'): Handled => {
  const text = `<?xml version="1.0" encoding="UTF-8"?>\n<${root}>${inner}</${root}>`;
  return {
    kind,
    bytes: text.length,
    send: (response) => void response.writeHead(200, { 'content-type': 'application/xml' }).end(text),
  };
};

const read = (kind: Kind, found: Stored | undefined, range: string | undefined): Handled => {
  if (!found) return refused(kind, 'NoSuchKey');
  const { content, etag, metadata } = found;
  const [, from = '', to = ''] = /^bytes=(\d*)-(\d*)$/.exec(range ?? '') ?? [];
  const start = from === '' ? (to === '' ? 0 : Math.max(0, content.length - Number(to))) : Number(from);
  const end = from === '' || to === '' ? content.length : Math.min(content.length, Number(to) + 1);
  if (range !== undefined && start >= content.length) return refused(kind, 'InvalidRange');
  const bytes = kind === 'head' ? 0 : end - start;
  const headers = {
    ...metadata,
    etag,
    'content-length': end - start,
    ...(range === undefined ? {} : { 'content-range': `bytes ${start}-${end - 1}/${content.length}` }),
  };
  return {
    kind,
    bytes,
    send: (response) => {
      response.writeHead(range === undefined ? 200 : 206, headers);
      response.end(kind === 'head' ? undefined : content.subarray(start, end));
    },
  };
};

const bodyOf = async (request: IncomingMessage): Promise<Buffer> => {
  const length = Number(request.headers['content-length'] ?? 0);
  const into = Buffer.allocUnsafeSlow(length);
  let at = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) at += chunk.copy(into, at);
  return into.subarray(0, at);
};

/** Serves an empty bucket on a port of loopback until it is told to stop. */
export const serveBucketJob = jobOf(import.meta.url, 'serveBucket');
export const serveBucket = async (
  { port }: { readonly port: number },
  context: JobContext,
): Promise<{ port: number }> => {
  const { answer } = new Server();
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  context.ready();
  await context.stopped;
  server.close();
  server.closeAllConnections();
  return { port: (server.address() as AddressInfo | null)?.port ?? port };
};
