/** What providers answer, and what a store makes of it: error ids, waiting, and bandwidth. No time passes: the test owns it. */
import assert from 'node:assert/strict';
import { after, afterEach, describe, test } from 'node:test';
import { type ErrorId, PitrError } from '../../engine/errors.ts';
import { RequestPacer } from '../../engine/request-pacer.ts';
import { parseS3Url, withoutTuning, withS3Parameters } from '../../engine/s3-options.ts';
import { S3Store } from '../../engine/s3-store.ts';
import { openEnvelope, sealEnvelope } from '../../engine/swap-envelope.ts';
import type { Timing } from '../../engine/timing.ts';
import { type Answer, xmlError } from '../s3/http.ts';
import { startProvider } from '../s3/provider.ts';
import { bytesOf, rejectsWith } from './object-store-conformance.ts';

const provider = await startProvider();
const { gate } = provider;
after(() => provider.close());
/** Pauses are noted and do not happen; deadlines never pass. */
const noted = (random = 1) => {
  const pauses: number[] = [];
  let nowMs = 0;
  const timing: Timing = {
    nowMs: () => nowMs,
    random: () => random,
    pause: (ms, signal) => {
      if (signal) return new Promise(() => undefined);
      pauses.push(ms);
      nowMs += ms;
      return Promise.resolve();
    },
  };
  return { pauses, timing };
};

const withHeaders = (answer: Answer, headers: Record<string, string>): Answer => ({
  ...answer,
  headers: { ...answer.headers, ...headers },
});

describe('S3Store: answers', () => {
  afterEach(() => {
    gate.quirks = {};
    gate.messages.length = 0;
  });

  const FINAL: readonly (readonly [Answer, ErrorId, number])[] = [
    [xmlError(403, 'AccessDenied'), 'archive-denied', 64],
    [xmlError(403, 'SignatureDoesNotMatch'), 'archive-denied', 64],
    [xmlError(403, 'InvalidAccessKeyId'), 'archive-denied', 64],
    [xmlError(400, 'ExpiredToken'), 'archive-denied', 64],
    [xmlError(404, 'NoSuchBucket'), 'bucket-unknown', 66],
    [
      withHeaders(xmlError(301, 'PermanentRedirect'), { 'x-amz-bucket-region': 'eu-west-3' }),
      'bucket-elsewhere',
      66,
    ],
    [xmlError(400, 'InvalidStorageClass'), 'archive-refused', 67],
  ];
  for (const [answer, id, exit] of FINAL)
    test(`${answer.status} ${/<Code>(.*?)</.exec(`${answer.body}`)![1]} is ${id}, at once`, async () => {
      const { pauses, timing } = noted();
      const store = new S3Store({ url: provider.url(), timing });
      gate.quirks = { always: answer };
      for (const ask of [
        () => store.read('a'),
        () => store.list(''),
        () => store.create('a', bytesOf('a')),
      ]) {
        const error = await ask().then(
          () => undefined,
          (e) => e,
        );
        assert.ok(error instanceof PitrError, `${error}`);
        assert.deepEqual([error.id, error.exitCode], [id, exit]);
        if (id === 'bucket-elsewhere') assert.match(error.hint, /eu-west-3/);
      }
      assert.deepEqual(pauses, []);
    });

  test('what passes is tried again, with growing pauses that never exceed their bound', async () => {
    const { pauses, timing } = noted();
    const store = new S3Store({ url: provider.url({ tries: '10' }), timing });
    gate.quirks = { always: xmlError(500, 'InternalError') };
    await rejectsWith('archive-away', store.read('a'));
    assert.deepEqual(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    assert.equal(gate.messages.length, 10);
  });

  test('who is asked to slow down waits for longer, and as long as was asked', async () => {
    const { pauses, timing } = noted(0);
    const store = new S3Store({ url: provider.url({ tries: '3' }), timing });
    gate.quirks = { always: xmlError(503, 'SlowDown') };
    await rejectsWith('archive-throttled', store.read('a'));
    assert.deepEqual(pauses, [250, 500], 'half of it by chance');
    gate.quirks = { always: withHeaders(xmlError(429, 'TooManyRequests'), { 'retry-after': '7' }) };
    await rejectsWith('archive-throttled', store.read('a'));
    assert.deepEqual(pauses.slice(2), [7000, 7000]);
  });

  test('a clock that is wrong is said to be wrong', async () => {
    const { timing } = noted();
    const store = new S3Store({ url: provider.url({ tries: '2' }), timing });
    gate.quirks = { always: xmlError(403, 'RequestTimeTooSkewed') };
    await rejectsWith('clock-skew', store.read('a'));
    assert.equal(gate.messages.length, 2, 'the SDK corrects its signature once');
  });
});

describe('bandwidth', () => {
  test('bytes wait until those before them are paid for, also when the clock is set back', async () => {
    const { pauses, timing } = noted();
    const pacer = new RequestPacer({ requestsMax: 1, bytesPerSecond: 1000 }, timing);
    await pacer.pass(500);
    await pacer.pass(2000);
    await pacer.pass(1);
    assert.deepEqual(pauses, [500, 2000]);
    const back: Timing = { ...timing, nowMs: () => now };
    let now = 1_000_000;
    const other = new RequestPacer({ requestsMax: 1, bytesPerSecond: 1000 }, back);
    await other.pass(1000);
    now = 0;
    await other.pass(1);
    assert.deepEqual(pauses.slice(2), [1000]);
  });
});

describe('URL of a bucket', () => {
  test('says everything but the secrets', () => {
    const { storageClasses, ...rest } = parseS3Url(
      's3://my.bucket/a/b/?endpoint=https://h:9000&region=eu-west-1&path-style=false&profile=p&single-writer=true' +
        '&storage-class=segments:STANDARD_IA,manifests:STANDARD&encryption=aws:kms:k&requests=4&bandwidth=0.5' +
        '&part-size=8&timeout=2&tries=3',
    );
    assert.deepEqual(
      [...storageClasses],
      [
        ['segments', 'STANDARD_IA'],
        ['manifests', 'STANDARD'],
      ],
    );
    assert.deepEqual(rest, {
      bucket: 'my.bucket',
      prefix: 'a/b',
      endpoint: 'https://h:9000',
      region: 'eu-west-1',
      pathStyle: false,
      profile: 'p',
      singleWriter: true,
      encryption: { algorithm: 'aws:kms', keyId: 'k' },
      requestsMax: 4,
      bytesPerSecond: 512 * 1024,
      partBytes: 8 * 1024 * 1024,
      timeoutMs: 2000,
      triesMax: 3,
    });
  });

  test("a server that is not Amazon's has buckets in the path and some region", () => {
    const { pathStyle, region } = parseS3Url('s3://bucket?endpoint=http://h:1');
    assert.deepEqual([pathStyle, region], [true, 'us-east-1']);
    const amazon = parseS3Url('s3://bucket');
    assert.deepEqual([amazon.pathStyle, amazon.region, amazon.prefix], [false, undefined, '']);
  });

  test('what it cannot mean is refused', () => {
    for (const url of [
      's3://',
      's3://b',
      's3://key:secret@bucket',
      's3://bucket/a//b',
      's3://bucket/..',
      's3://bucket/a b',
      's3://bucket#x',
      's3://bucket?endpoint=h:1',
      's3://bucket?endpoint=http://h/path',
      's3://bucket?path-style=yes',
      's3://bucket?requests=0',
      's3://bucket?part-size=4',
      's3://bucket?storage-class=segments:GLACIER',
      's3://bucket?storage-class=heads:STANDARD',
      's3://bucket?encryption=AES256:key',
      's3://bucket?secret-key=x',
    ])
      assert.throws(
        () => parseS3Url(url),
        (error) => error instanceof PitrError && error.id === 'archive-url',
        url,
      );
  });

  test('settings replace what it says, and a directory keeps only where the archive is', () => {
    const url = withS3Parameters('s3://bucket/a?region=x&requests=4', {
      region: 'y',
      timeout: '2',
      endpoint: 'http://h:1',
    });
    assert.equal(url, 's3://bucket/a?region=y&requests=4&timeout=2&endpoint=http://h:1');
    assert.equal(withoutTuning(url), 's3://bucket/a?region=y&endpoint=http://h:1');
    assert.equal(withS3Parameters('file:/a', { region: 'y' }), 'file:/a');
  });
});

describe('swap envelope', () => {
  test('is what engine/README.md shows in bytes', () => {
    const bytes = sealEnvelope('0102030405060708', ['1112131415161718'], Buffer.from('head'));
    assert.equal(bytes.toString('hex'), '7069747273777031020102030405060708111213141516171868656164');
    assert.deepEqual(openEnvelope('h', bytes), {
      nonces: ['0102030405060708', '1112131415161718'],
      value: Buffer.from('head'),
    });
  });

  test('remembers 32 values, and nothing else passes for one', () => {
    let nonces: readonly string[] = [];
    for (let i = 0; i < 40; i++)
      ({ nonces } = openEnvelope('h', sealEnvelope(`${i}`.padStart(16, '0'), nonces, Buffer.alloc(0))));
    assert.deepEqual(
      [nonces.length, nonces[0], nonces[31]],
      [32, '39'.padStart(16, '0'), '8'.padStart(16, '0')],
    );
    for (const hex of [
      '',
      '7069747273777031',
      '706974727377703100',
      '70697472737770310201',
      '7069747273777031ff',
    ])
      assert.throws(() => openEnvelope('h', Buffer.from(hex, 'hex')), { id: 'object-corrupt' });
  });
});
