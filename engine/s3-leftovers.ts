/** Uploads in parts that were never finished: no listing shows them, and they cost what objects cost. */
import { isObjectName } from './object-name.ts';
import type { Leftover, Leftovers } from './object-store.ts';
import { errorOf, S3Failure } from './s3-failure.ts';
import type { S3Options } from './s3-options.ts';
import type { S3Requests, Try } from './s3-requests.ts';

/** Where a page of the protocol's listing ends. */
interface Marker {
  readonly key: string;
  readonly id: string | undefined;
}

interface Page {
  readonly uploads: readonly { readonly key: string; readonly id: string }[];
  /** Undefined: this was the last page. */
  readonly next: Marker | undefined;
}

export interface S3LeftoversOptions {
  readonly requests: S3Requests;
  readonly options: S3Options;
  readonly url: string;
  /** Of the archive in the bucket: empty, or ending in `/`. */
  readonly prefix: string;
  /** Uploads that this process has under way. */
  readonly isUnderWay: (uploadId: string) => boolean;
}

export class S3Leftovers implements Leftovers {
  readonly #it: S3LeftoversOptions;

  constructor(it: S3LeftoversOptions) {
    this.#it = it;
  }

  async *list(): AsyncGenerator<readonly Leftover[]> {
    const { requests, options, prefix, isUnderWay } = this.#it;
    let from: Marker | undefined;
    do {
      const page = await this.#named('list uploads', prefix, () =>
        requests.send({ run: (attempt) => listUploads(attempt, options.bucket, prefix, from) }),
      );
      const found: Leftover[] = [];
      for (const { key, id } of page.uploads) {
        const name = key.slice(prefix.length);
        // what no object can be called is not ours
        if (isObjectName(name) && !isUnderWay(id))
          found.push({ kind: 'upload', id: `${name}?uploadId=${id}`, name, bytes: undefined });
      }
      yield found;
      from = page.next;
    } while (from !== undefined);
  }

  async remove(leftovers: readonly Leftover[]): Promise<{ name: string; cause: unknown }[]> {
    const failures: { name: string; cause: unknown }[] = [];
    for (const { id, name = '' } of leftovers) {
      const uploadId = id.slice(`${name}?uploadId=`.length);
      try {
        await this.#named('abort', name, () => this.#abort(name, uploadId));
      } catch (cause) {
        failures.push({ name: id, cause });
      }
    }
    return failures;
  }

  async #abort(name: string, UploadId: string): Promise<void> {
    const { requests, options, prefix } = this.#it;
    try {
      await requests.send({
        run: async ({ sdk, client, signal }) => {
          const input = { Bucket: options.bucket, Key: prefix + name, UploadId };
          await client.send(new sdk.AbortMultipartUploadCommand(input), { abortSignal: signal });
          return true;
        },
      });
    } catch (error) {
      // finished, or removed by somebody else; or by an earlier try whose answer was lost
      if (!(error instanceof S3Failure && error.kind === 'missing')) throw error;
    }
  }

  async #named<T>(op: string, name: string, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof S3Failure)) throw error;
      const { url, options } = this.#it;
      throw errorOf(error, { op, name, url, bucket: options.bucket });
    }
  }
}

const nonsense = (what: string): S3Failure => new S3Failure('away', 'nonsense', what);

const listUploads = async (
  { sdk, client, signal }: Try,
  Bucket: string,
  Prefix: string,
  from: Marker | undefined,
): Promise<Page> => {
  const command = new sdk.ListMultipartUploadsCommand({
    Bucket,
    Prefix,
    ...(from === undefined ? {} : { KeyMarker: from.key }),
    ...(from?.id === undefined ? {} : { UploadIdMarker: from.id }),
  });
  const answer = await client.send(command, { abortSignal: signal });
  const { Bucket: of, Uploads = [], IsTruncated, NextKeyMarker, NextUploadIdMarker } = answer;
  // some servers know no such question, and list objects instead
  if (of === undefined && IsTruncated !== undefined)
    throw new S3Failure('unsupported', 'nonsense', 'a listing of uploads does not say of which bucket');
  // without this an error that arrives as "done" would look like "none"
  if (IsTruncated === undefined)
    throw nonsense('a listing of uploads was answered without saying whether there is more');
  if (IsTruncated && !NextKeyMarker) throw nonsense('a listing of uploads has more and does not say where');
  if (IsTruncated && NextKeyMarker === from?.key && NextUploadIdMarker === from?.id)
    throw nonsense('a listing of uploads does not go on');
  const uploads = Uploads.map(({ Key, UploadId }) => {
    if (!Key?.startsWith(Prefix) || !UploadId)
      throw nonsense('a listing of uploads has what was not asked for');
    return { key: Key, id: UploadId };
  });
  return {
    uploads,
    next: IsTruncated ? { key: NextKeyMarker as string, id: NextUploadIdMarker } : undefined,
  };
};
