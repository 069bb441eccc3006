/** HTTP messages as values, so that a layer between client and server is a function. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Message {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export type Handler = (message: Message) => Promise<Answer>;

export const xmlError = (status: number, code: string, message = code): Answer => ({
  status,
  headers: { 'content-type': 'application/xml' },
  body: Buffer.from(
    `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`,
  ),
});

/** Passes messages on to a server, unchanged: also the host that the client signed. */
export const forwardTo = (endpoint: string): Handler => {
  const { hostname, port } = new URL(endpoint);
  return ({ method, url, headers, body }) =>
    new Promise((resolve, reject) => {
      const { connection: _, 'transfer-encoding': __, ...rest } = headers;
      const outgoing = request({
        hostname,
        port,
        method,
        path: url,
        headers: { ...rest, 'content-length': body.length },
      });
      outgoing.on('error', reject).on('response', (incoming) => {
        const chunks: Buffer[] = [];
        incoming
          .on('data', (chunk: Buffer) => chunks.push(chunk))
          .on('error', reject)
          .on('end', () => {
            const answer = Buffer.concat(chunks);
            resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: answer });
          });
      });
      outgoing.end(body);
    });
};

/** Writes an answer as it is, without what concerns only the connection that it came by. */
export function send(response: ServerResponse, { status, headers, body }: Answer, isHead: boolean): void {
  const { connection: _, 'transfer-encoding': __, 'keep-alive': ___, ...rest } = headers;
  const length = isHead ? rest['content-length'] : body.length;
  response.writeHead(status, { ...rest, ...(length === undefined ? {} : { 'content-length': length }) });
  response.end(isHead ? undefined : body);
}

export interface Running {
  readonly endpoint: string;
  close(): Promise<void>;
}

/** A server on loopback. `answer` may do with the response what it likes. */
export async function listen(
  answer: (message: Message, response: ServerResponse) => Promise<void>,
): Promise<Running> {
  const server = createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming
      .on('data', (chunk: Buffer) => chunks.push(chunk))
      .on('error', () => undefined)
      .on('end', () => {
        const { method = 'GET', url = '/', headers } = incoming;
        answer({ method, url, headers, body: Buffer.concat(chunks) }, response).catch(() =>
          response.destroy(),
        );
      });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

export const md5 = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('base64');
export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
