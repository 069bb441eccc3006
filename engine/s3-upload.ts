/**
 * A large object in parts, side by side. Many servers ignore a condition on the last step of this, so the name is taken first:
 *
 *  1. The caller writes an empty object that is marked as pending, on the condition that there is none (create's own rule).
 *  2. The parts go up.
 *  3. The last step replaces the empty object. Only who won 1 comes here.
 *
 * A pending object reads as absent. After a crash it stays behind, listed with 0 bytes, and is swept like every object that no
 * catalog names; so are the parts (s3-leftovers.ts).
 */
import type { CompletedPart } from '@aws-sdk/client-s3';
import { S3Failure } from './s3-failure.ts';
import { type Label, metadataOf, storageOf } from './s3-objects.ts';
import type { S3Options } from './s3-options.ts';
import type { S3Requests } from './s3-requests.ts';

/** The protocol's limit. */
const PARTS_MAX = 10_000;
/** Times that one object is begun. */
const UPLOADS_MAX = 3;

export interface Upload {
  readonly key: string;
  /** In the archive: decides about the storage class. */
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly label: Label;
  /** Has the upload's id as long as it lasts. */
  readonly underWay: Set<string>;
}

/**
 * Steps 2 and 3. `isDone` looks whether the whole object is there: asked after an answer that says nothing certain. An upload of
 * which the server knows nothing is begun anew: its id was damaged on the way here, or somebody has removed it.
 * @throws S3Failure; the parts are then removed as far as possible
 */
export async function uploadParts(
  requests: S3Requests,
  options: S3Options,
  upload: Upload,
  isDone: () => Promise<boolean>,
): Promise<void> {
  for (let begun = 1; ; begun++) {
    try {
      await uploadOnce(requests, options, upload, isDone);
      return;
    } catch (error) {
      if (!(error instanceof S3Failure && error.kind === 'missing')) throw error;
      if (begun >= UPLOADS_MAX)
        throw new S3Failure('away', error.code, 'the upload is not known there', { cause: error });
    }
  }
}

async function uploadOnce(
  requests: S3Requests,
  options: S3Options,
  { key, name, bytes, label, underWay }: Upload,
  isDone: () => Promise<boolean>,
): Promise<void> {
  const { bucket: Bucket } = options;
  const uploadId = await requests.send({
    run: async ({ sdk, client, signal }) => {
      const { UploadId } = await client.send(
        new sdk.CreateMultipartUploadCommand({
          Bucket,
          Key: key,
          ContentType: 'application/octet-stream',
          Metadata: metadataOf(label),
          ...storageOf(options, name),
        }),
        { abortSignal: signal },
      );
      if (!UploadId) throw new S3Failure('away', 'nonsense', 'an upload was begun without an id');
      return UploadId;
    },
  });
  underWay.add(uploadId);
  try {
    const parts = await sendParts(requests, options, key, uploadId, bytes);
    await requests.send({
      run: async ({ sdk, client, signal }) => {
        await client.send(
          new sdk.CompleteMultipartUploadCommand({
            Bucket,
            Key: key,
            UploadId: uploadId,
            MultipartUpload: { Parts: parts },
          }),
          { abortSignal: signal },
        );
        // Servers answer "done" with an error in the body, without an ETag, or before it is: only a look is certain.
        if (!(await isDone())) throw new S3Failure('away', 'unfinished', 'the upload is not there yet');
        return true;
      },
      settle: async () => ((await isDone()) ? true : undefined),
    });
  } catch (error) {
    // A repeated last step of which the first had its effect finds its upload gone.
    if (error instanceof S3Failure && error.kind === 'missing' && (await isDone())) return;
    await abort(requests, Bucket, key, uploadId);
    throw error;
  } finally {
    underWay.delete(uploadId);
  }
}

async function sendParts(
  requests: S3Requests,
  { bucket: Bucket, partBytes: wantedBytes, requestsMax }: S3Options,
  key: string,
  uploadId: string,
  bytes: Uint8Array,
): Promise<CompletedPart[]> {
  const partBytes = Math.max(wantedBytes, Math.ceil(bytes.length / PARTS_MAX));
  const count = Math.ceil(bytes.length / partBytes);
  const parts: CompletedPart[] = new Array(count);
  let next = 0;
  let hasFailed = false;
  const sendSome = async (): Promise<void> => {
    while (next < count && !hasFailed) {
      const i = next++;
      const part = bytes.subarray(i * partBytes, (i + 1) * partBytes);
      const PartNumber = i + 1;
      const etag = await requests.send({
        bytes: part.length,
        run: async ({ sdk, client, signal }) => {
          const command = new sdk.UploadPartCommand({
            Bucket,
            Key: key,
            UploadId: uploadId,
            PartNumber,
            Body: part,
          });
          const { ETag } = await client.send(command, { abortSignal: signal });
          if (!ETag) throw new S3Failure('away', 'nonsense', 'a part was answered without an ETag');
          return ETag;
        },
      });
      parts[i] = { PartNumber, ETag: etag };
    }
  };
  const senders = Array.from({ length: Math.min(count, requestsMax) }, () =>
    sendSome().catch((error) => {
      hasFailed = true;
      throw error;
    }),
  );
  // all of them: what is still on its way must not go on behind the back of whoever cleans up
  const results = await Promise.allSettled(senders);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  return parts;
}

/** Best effort: parts that stay behind cost money until they are swept, and harm nothing. */
async function abort(requests: S3Requests, Bucket: string, Key: string, UploadId: string): Promise<void> {
  await requests
    .send({
      run: async ({ sdk, client, signal }) => {
        await client.send(new sdk.AbortMultipartUploadCommand({ Bucket, Key, UploadId }), {
          abortSignal: signal,
        });
        return true;
      },
    })
    .catch(() => undefined);
}
