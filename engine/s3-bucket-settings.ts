/** Settings of a bucket that could take an archive's objects away, or keep them for too long. */
import { S3Failure } from './s3-failure.ts';
import type { S3Options } from './s3-options.ts';
import type { S3Requests, Try } from './s3-requests.ts';

/** What a question to a provider came to. */
export type Answer = {
  readonly result?: 'ok' | 'warning' | 'failed';
  readonly found: string;
  readonly meaning?: string;
};

interface Bucket {
  readonly requests: S3Requests;
  readonly options: S3Options;
}

export const failed = (found: string, meaning?: string): Answer => ({
  result: 'failed',
  found,
  ...(meaning === undefined ? {} : { meaning }),
});

/** A setting that many may not read, and that many providers do not know. */
async function setting<T>(
  requests: S3Requests,
  absentCode: RegExp,
  run: (attempt: Try) => Promise<T>,
): Promise<T | Answer | undefined> {
  try {
    return await requests.send({ run });
  } catch (error) {
    if (!(error instanceof S3Failure)) throw error;
    if (absentCode.test(error.code)) return undefined;
    return { result: 'warning', found: `not readable (${error.code})`, meaning: 'ask who runs the bucket' };
  }
}

export async function lifecycle({ requests, options }: Bucket): Promise<Answer> {
  const { bucket: Bucket, prefix } = options;
  const answer = await setting(requests, /NoSuchLifecycleConfiguration/, ({ sdk, client, signal }) =>
    client.send(new sdk.GetBucketLifecycleConfigurationCommand({ Bucket }), { abortSignal: signal }),
  );
  if (answer && 'found' in answer) return answer;
  const rules = (answer?.Rules ?? []).filter((rule) => rule.Status === 'Enabled');
  const place = prefix === '' ? '' : `${prefix}/`;
  const ours = rules.filter((rule) => {
    const of = rule.Filter?.Prefix ?? rule.Filter?.And?.Prefix ?? rule.Prefix ?? '';
    return of.startsWith(place) || place.startsWith(of);
  });
  const deleting = ours.find(
    (rule) => rule.Expiration?.Days !== undefined || rule.Expiration?.Date !== undefined,
  );
  if (deleting)
    return failed(
      `rule ${deleting.ID ?? 'without a name'} deletes objects${deleting.Expiration?.Days === undefined ? '' : ` after ${deleting.Expiration.Days} days`}`,
      'segments that restores need would vanish: exclude this prefix, let pitr delete',
    );
  const asleep = ours.find((rule) =>
    rule.Transitions?.some((t) => /^(GLACIER|DEEP_ARCHIVE)$/.test(t.StorageClass ?? '')),
  );
  if (asleep)
    return failed(
      `rule ${asleep.ID ?? 'without a name'} moves objects to ${asleep.Transitions?.[0]?.StorageClass}`,
      'what is there cannot be read without waking it up: restores would fail',
    );
  const cleans = ours.some((rule) => rule.AbortIncompleteMultipartUpload !== undefined);
  return cleans
    ? { found: 'none deletes objects; parts of broken uploads are removed' }
    : {
        result: 'warning',
        found: 'none deletes objects, none removes the parts of broken uploads',
        meaning: 'add AbortIncompleteMultipartUpload after 7 days: such parts are invisible and cost money',
      };
}

export async function objectLock({ requests, options }: Bucket): Promise<Answer> {
  const { bucket: Bucket } = options;
  const answer = await setting(requests, /ObjectLockConfigurationNotFound/, ({ sdk, client, signal }) =>
    client.send(new sdk.GetObjectLockConfigurationCommand({ Bucket }), { abortSignal: signal }),
  );
  if (answer && 'found' in answer) return answer;
  const { Mode, Days, Years } = answer?.ObjectLockConfiguration?.Rule?.DefaultRetention ?? {};
  return Mode === undefined
    ? { found: 'off' }
    : { found: `${Mode}, ${Days === undefined ? `${Years} years` : `${Days} days`}` };
}
