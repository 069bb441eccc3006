/**
 * What lifecycle rules and object lock of a bucket mean for an archive and its window. Answers have the form that the S3 API
 * reference gives for GetBucketLifecycleConfiguration and GetObjectLockConfiguration; a real HTTP server gives them.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Answer, lifecycle, objectLock } from '../../engine/s3-bucket-settings.ts';
import { S3Store } from '../../engine/s3-store.ts';
import { listen, type Running, send, xmlError } from '../s3/http.ts';
import { CREDENTIALS, hasty } from '../s3/provider.ts';

const DAY_MS = 86_400_000;
const NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"';
let said = '';
let server: Running;

before(async () => {
  Object.assign(process.env, { ...CREDENTIALS, ...process.env });
  server = await listen(async (_, response) => {
    if (said.startsWith('<'))
      send(
        response,
        { status: 200, headers: { 'content-type': 'application/xml' }, body: Buffer.from(said) },
        false,
      );
    else send(response, xmlError(404, said), false);
  });
});
after(() => server.close());

const ask = (
  question: (bucket: Parameters<typeof lifecycle>[0]) => Promise<Answer>,
  answer: string,
  windowDays: number | undefined,
): Promise<Answer> => {
  said = answer;
  const { requests, options } = new S3Store({
    url: `s3://bucket/db?endpoint=${server.endpoint}`,
    timing: hasty,
  });
  return question({
    requests,
    options,
    ...(windowDays === undefined ? {} : { windowMs: windowDays * DAY_MS }),
  });
};

const rules = (...all: string[]): string =>
  `<?xml version="1.0" encoding="UTF-8"?>\n<LifecycleConfiguration ${NAMESPACE}>${all.join('')}</LifecycleConfiguration>`;
const rule = (filter: string, what: string, status = 'Enabled'): string =>
  `<Rule><ID>r</ID>${filter}<Status>${status}</Status>${what}</Rule>`;
const below = (prefix: string): string => `<Filter><Prefix>${prefix}</Prefix></Filter>`;
const days = (n: number): string => `<Expiration><Days>${n}</Days></Expiration>`;
const ABORT =
  '<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>';
const NONCURRENT =
  '<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>' +
  '<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>';
const TAG = '<Tag><Key>temporary</Key><Value>yes</Value></Tag>';

const LIFECYCLE: readonly (readonly [
  what: string,
  answer: string,
  windowDays: number | undefined,
  result: Answer['result'],
  found: RegExp,
])[] = [
  ['there are none', 'NoSuchLifecycleConfiguration', 7, 'warning', /none removes the parts/],
  ['parts of broken uploads go', rules(rule(below(''), ABORT)), 7, undefined, /parts of broken uploads are/],
  ['old versions go', rules(rule(below('db/'), NONCURRENT + ABORT)), 7, undefined, /none deletes objects/],
  ['everything goes after a year', rules(rule(below(''), days(365))), undefined, 'failed', /after 365 days/],
  [
    'sooner than the window',
    rules(rule(below('db/'), days(6))),
    7,
    'failed',
    /window of 7 days needs 14 days/,
  ],
  [
    'segments go after the window, before the full copy that it begins with',
    rules(rule(below('db/segments/'), days(13))),
    7,
    'failed',
    /needs 14 days/,
  ],
  [
    'segments go after window and margin',
    rules(rule(below('db/segments/'), days(14))),
    7,
    'warning',
    /a window of 7 days is kept/,
  ],
  [
    'a rule that is older than filters',
    rules(rule('<Prefix>db/segments/</Prefix>', days(13))),
    7,
    'failed',
    /needs 14 days/,
  ],
  [
    'everything goes after a year, a week is wanted',
    rules(rule(below(''), days(365))),
    7,
    'failed',
    /whatever/,
  ],
  [
    'on a day',
    rules(rule('<Filter/>', '<Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration>')),
    7,
    'failed',
    /2030-01-01/,
  ],
  [
    'one of two rules is harmful',
    rules(rule(below('db/segments/'), days(30)), rule(below('db/'), days(1))),
    7,
    'failed',
    /after 1 days/,
  ],
  [
    'of another folder',
    rules(rule(below('other/'), days(1)), rule(below('db/'), ABORT)),
    7,
    undefined,
    /none/,
  ],
  ['that is off', rules(rule(below('db/'), days(1), 'Disabled')), 7, 'warning', /none deletes/],
  [
    'of objects with a tag, which ours have not',
    rules(
      rule(`<Filter>${TAG}</Filter>`, days(1)),
      rule(`<Filter><And><Prefix>db/</Prefix>${TAG}</And></Filter>`, days(1)),
    ),
    7,
    'warning',
    /none deletes/,
  ],
  [
    'of small objects',
    rules(
      rule(
        '<Filter><And><Prefix>db/</Prefix><ObjectSizeLessThan>1000</ObjectSizeLessThan></And></Filter>',
        days(1),
      ),
    ),
    7,
    'failed',
    /after 1 days/,
  ],
  [
    'they fall asleep',
    rules(rule(below(''), '<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>')),
    7,
    'failed',
    /GLACIER/,
  ],
  ['who asks may not know', 'AccessDenied', 7, 'warning', /not readable/],
];

test('lifecycle rules are compared with the window that is wanted', async () => {
  for (const [what, answer, windowDays, result, found] of LIFECYCLE) {
    const { result: actual, found: text } = await ask(lifecycle, answer, windowDays);
    assert.equal(actual, result, `${what}: ${text}`);
    assert.match(text, found, what);
  }
});

const lock = (retention: string): string =>
  `<ObjectLockConfiguration ${NAMESPACE}><ObjectLockEnabled>Enabled</ObjectLockEnabled>${retention}</ObjectLockConfiguration>`;
const keep = (mode: string, time: string): string =>
  lock(`<Rule><DefaultRetention><Mode>${mode}</Mode>${time}</DefaultRetention></Rule>`);

test('object lock is compared with the window that is wanted', async () => {
  for (const [answer, windowDays, result, found, meaning] of [
    ['ObjectLockConfigurationNotFoundError', 7, undefined, /^off$/, undefined],
    [lock(''), 7, undefined, /^off$/, undefined],
    [keep('GOVERNANCE', '<Days>7</Days>'), 7, undefined, /GOVERNANCE, 7 days/, undefined],
    [
      keep('GOVERNANCE', '<Days>8</Days>'),
      7,
      'warning',
      /8 days; the window is 7 days/,
      /refused until then/,
    ],
    [keep('COMPLIANCE', '<Years>1</Years>'), 30, 'warning', /COMPLIANCE, 1 years/, /refused until then/],
    [keep('COMPLIANCE', '<Days>6</Days>'), 7, 'warning', /COMPLIANCE, 6 days/, /not locked any more/],
    [keep('COMPLIANCE', '<Days>6</Days>'), undefined, undefined, /COMPLIANCE, 6 days$/, undefined],
  ] as const) {
    const actual = await ask(objectLock, answer, windowDays);
    assert.equal(actual.result, result, actual.found);
    assert.match(actual.found, found);
    if (meaning) assert.match(actual.meaning ?? '', meaning);
    else assert.equal(actual.meaning, undefined);
  }
});
