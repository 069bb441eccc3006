/** Settings of a bucket that could take an archive's objects away, or keep them for too long. */
import type { LifecycleRule } from '@aws-sdk/client-s3';
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
  /** How far back instants shall be restorable; undefined: nobody said so. */
  readonly windowMs?: number;
}

const DAY_MS = 86_400_000;
/** The state at the window's start begins with a full copy from before it; they are taken to be a week apart at most. */
const BASE_MARGIN_MS = 7 * DAY_MS;
const inDays = (ms: number): string => `${Math.round((ms / DAY_MS) * 10) / 10} days`;

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

export async function lifecycle({ requests, options, windowMs }: Bucket): Promise<Answer> {
  const { bucket: Bucket, prefix } = options;
  const answer = await setting(requests, /NoSuchLifecycleConfiguration/, ({ sdk, client, signal }) =>
    client.send(new sdk.GetBucketLifecycleConfigurationCommand({ Bucket }), { abortSignal: signal }),
  );
  if (answer && 'found' in answer) return answer;
  const place = prefix === '' ? '' : `${prefix}/`;
  const ours = (answer?.Rules ?? []).filter((rule) => {
    const of = placeOf(rule);
    return rule.Status === 'Enabled' && !isForTagged(rule) && (of.startsWith(place) || place.startsWith(of));
  });
  const expiries = ours.flatMap((rule) => expiry(rule, place, windowMs) ?? []);
  const worst = expiries.find((e) => e.result === 'failed') ?? expiries[0];
  if (worst?.result === 'failed') return worst;
  const asleep = ours.find((rule) =>
    rule.Transitions?.some((t) => /^(GLACIER|DEEP_ARCHIVE)$/.test(t.StorageClass ?? '')),
  );
  if (asleep)
    return failed(
      `rule ${asleep.ID ?? 'without a name'} moves objects to ${asleep.Transitions?.[0]?.StorageClass}`,
      'what is there cannot be read without waking it up: restores would fail',
    );
  if (worst) return worst;
  const cleans = ours.some((rule) => rule.AbortIncompleteMultipartUpload !== undefined);
  return cleans
    ? { found: 'none deletes objects; parts of broken uploads are removed' }
    : {
        result: 'warning',
        found: 'none deletes objects, none removes the parts of broken uploads',
        meaning: 'add AbortIncompleteMultipartUpload after 7 days: such parts are invisible and cost money',
      };
}

const placeOf = (rule: LifecycleRule): string =>
  rule.Filter?.Prefix ?? rule.Filter?.And?.Prefix ?? rule.Prefix ?? '';

/** pitr's objects have no tags. */
const isForTagged = ({ Filter }: LifecycleRule): boolean =>
  Filter?.Tag !== undefined || (Filter?.And?.Tags ?? []).length > 0;

/** What a rule that deletes current objects means for a window. Versions that are no longer current are nobody's. */
function expiry(rule: LifecycleRule, place: string, windowMs: number | undefined): Answer | undefined {
  const { Days, Date: date } = rule.Expiration ?? {};
  if (Days === undefined && date === undefined) return undefined;
  const name = `rule ${rule.ID ?? 'without a name'}`;
  const advice = 'exclude this prefix, let pitr delete';
  const vanish = `segments that restores need would vanish: ${advice}`;
  if (Days === undefined) return failed(`${name} deletes objects of before ${date?.toISOString()}`, vanish);
  const found = `${name} deletes objects after ${Days} days`;
  if (windowMs === undefined) return failed(found, vanish);
  const neededMs = windowMs + BASE_MARGIN_MS;
  if (Days * DAY_MS < neededMs)
    return failed(
      `${found}; a window of ${inDays(windowMs)} needs ${inDays(neededMs)}`,
      `${vanish}. Beside the window itself its first instants need the full copy before it`,
    );
  if (!placeOf(rule).startsWith(`${place}segments/`))
    return failed(
      `${found}, whatever they are`,
      `what is written once and always needed, such as the name of the archive, would vanish: ${advice}`,
    );
  return {
    result: 'warning',
    found: `${found}; a window of ${inDays(windowMs)} is kept`,
    meaning: `only while full copies are at most ${inDays(BASE_MARGIN_MS)} apart, and pitr verify misses what is gone: ${advice}`,
  };
}

export async function objectLock({ requests, options, windowMs }: Bucket): Promise<Answer> {
  const { bucket: Bucket } = options;
  const answer = await setting(requests, /ObjectLockConfigurationNotFound/, ({ sdk, client, signal }) =>
    client.send(new sdk.GetObjectLockConfigurationCommand({ Bucket }), { abortSignal: signal }),
  );
  if (answer && 'found' in answer) return answer;
  const { Mode, Days, Years } = answer?.ObjectLockConfiguration?.Rule?.DefaultRetention ?? {};
  if (Mode === undefined) return { found: 'off' };
  const found = `${Mode}, ${Days === undefined ? `${Years} years` : `${Days} days`}`;
  if (windowMs === undefined) return { found };
  const retentionMs = (Days ?? (Years ?? 0) * 365) * DAY_MS;
  const compared = `${found}; the window is ${inDays(windowMs)}`;
  if (retentionMs > windowMs)
    return {
      result: 'warning',
      found: compared,
      meaning:
        'what merges replaced, and what has left the window, cannot be deleted before that: deletions are refused until then',
    };
  if (retentionMs < windowMs)
    return {
      result: 'warning',
      found: compared,
      meaning: 'older objects of the window are not locked any more: who may delete them can shorten it',
    };
  return { found: compared };
}
