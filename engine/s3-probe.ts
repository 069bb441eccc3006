/**
 * Looks at an S3 provider before an archive is trusted to it, one question after the other, each asked of the provider itself: what it
 * answers counts, not what it says of itself. Works below a folder of its own and removes everything that it made.
 */
import { PitrError } from './errors.ts';
import type { Leftover, Leftovers } from './object-store.ts';
import { type Answer, failed, lifecycle, objectLock } from './s3-bucket-settings.ts';
import { errorOf, S3Failure } from './s3-failure.ts';
import { S3Leftovers } from './s3-leftovers.ts';
import { type Condition, get, head, list, metadataOf, put, remove, storageOf } from './s3-objects.ts';
import { parseS3Url, type S3Options, withS3Parameters } from './s3-options.ts';
import type { S3Requests, Try } from './s3-requests.ts';
import { S3Store } from './s3-store.ts';
import type { Timing } from './timing.ts';

export interface Finding {
  /** What was asked. */
  readonly what: string;
  /** `failed`: an archive is not safe, or does not work here. `warning`: it does, and somebody should know. */
  readonly result: 'ok' | 'warning' | 'failed';
  readonly found: string;
  /** What follows from it for an archive. */
  readonly meaning: string;
}

const RACERS = 20;
/** A person waits. */
const TRIES_MAX = 4;
const MIB = 1024 * 1024;
/** The smallest part that the protocol allows. */
const PART_BYTES = 5 * MIB;
const SKEW_MS_WARN = 5000;
/** From here on providers refuse requests. */
const SKEW_MS_MAX = 15 * 60_000;

interface Question {
  readonly what: string;
  readonly meaning: string;
  ask(probe: Probe): Promise<Answer>;
  /** An archive works without it: a failure is a warning. */
  readonly isOptional?: true;
}

/** What the questions work with. */
class Probe {
  readonly options: S3Options;
  readonly requests: S3Requests;
  readonly timing: Timing;
  /** Of the probe's own folder. */
  readonly leftovers: Leftovers;
  readonly windowMs: number | undefined;
  readonly #folder: string;

  constructor(store: S3Store, timing: Timing, folder: string, windowMs: number | undefined) {
    const { requests, options, url } = store;
    this.leftovers = new S3Leftovers({ requests, options, url, prefix: folder, isUnderWay: () => false });
    this.options = store.options;
    this.requests = store.requests;
    this.timing = timing;
    this.windowMs = windowMs;
    this.#folder = folder;
  }

  key(name: string): string {
    return `${this.#folder}${name}`;
  }

  send<T>(run: (attempt: Try) => Promise<T>): Promise<T> {
    return this.requests.send({ run });
  }

  /** Once, as it is: whoever asks about an answer must not have it smoothed. */
  put(name: string, body: string, condition?: Condition, more: object = {}): Promise<string> {
    return this.send((attempt) =>
      put(
        attempt,
        { Bucket: this.options.bucket, Key: this.key(name), Body: Buffer.from(body), ...more },
        condition,
      ),
    );
  }

  async text(name: string, range?: { start: number; end?: number }): Promise<string> {
    const { content } = await this.send((attempt) =>
      get(attempt, this.options.bucket, this.key(name), range),
    );
    return `${content}`;
  }

  /** How a request failed; `undefined`: it did not. */
  async failureOf(run: () => Promise<unknown>): Promise<S3Failure | undefined> {
    try {
      await run();
      return undefined;
    } catch (error) {
      if (error instanceof S3Failure) return error;
      throw error;
    }
  }

  /** All names below a folder of the probe, in the order of the answers. */
  async names(below: string, pageKeys?: number): Promise<{ names: string[]; pages: number }> {
    const names: string[] = [];
    let pages = 0;
    let from: string | undefined;
    do {
      const page = await this.send((attempt) =>
        list(attempt, this.options.bucket, this.key(below), from, pageKeys),
      );
      names.push(...page.objects.map(({ key }) => key.slice(this.#folder.length)));
      pages++;
      from = page.next;
    } while (from !== undefined);
    return { names, pages };
  }

  async remove(names: readonly string[]): Promise<number> {
    const notRemoved = await this.send((attempt) =>
      remove(
        attempt,
        this.options.bucket,
        names.map((name) => this.key(name)),
      ),
    );
    return notRemoved.length;
  }
}

/** Of many who write one name at the same moment: who was told "done", and does the object say the same? */
const race = async (probe: Probe, name: string, condition: Condition): Promise<Answer> => {
  const bodies = Array.from({ length: RACERS }, (_, i) => `racer ${i}`);
  const failures = await Promise.all(
    bodies.map((body) => probe.failureOf(() => probe.put(name, body, condition))),
  );
  const winners = bodies.filter((_, i) => failures[i] === undefined);
  const codes = [...new Set(failures.flatMap((failure) => (failure ? [failure.code] : [])))].join(', ');
  const now = await probe.text(name);
  if (winners.length > 1) return failed(`${winners.length} of ${RACERS} were told that they won`);
  // Who had an unclear answer tried again and was refused: then nobody was told, and one is there all the same.
  if (!bodies.includes(now) || (winners[0] ?? now) !== now) return failed('the winner is not what is there');
  return { found: `one of ${RACERS} won; the others were told ${codes}` };
};

const QUESTIONS: readonly Question[] = [
  {
    what: 'write, read, HEAD',
    meaning: 'objects keep their bytes and their metadata',
    ask: async (probe) => {
      await probe.put('a', 'pitr', undefined, { Metadata: metadataOf({ attempt: 'probe' }) });
      const { bytes, label } = await probe.send((attempt) =>
        head(attempt, probe.options.bucket, probe.key('a')),
      );
      if ((await probe.text('a')) !== 'pitr' || bytes !== 4) return failed('something else was read');
      return label.attempt === 'probe'
        ? { found: 'as written' }
        : {
            result: 'warning',
            found: 'metadata is not kept',
            meaning:
              'large objects must not go up in parts: set part-size=1024; reads are not compared with a checksum',
          };
    },
  },
  {
    what: 'missing object',
    meaning: '"not there" is told from a failure',
    ask: async (probe) => {
      const failure = await probe.failureOf(() => probe.text('missing'));
      return failure?.kind === 'missing'
        ? { found: `${failure.status} ${failure.code}` }
        : failed(
            failure ? `${failure.status} ${failure.code}` : 'something was read',
            'without ListBucket many providers say 403 for what is missing: grant it',
          );
    },
  },
  {
    what: 'storage class, encryption',
    meaning: 'objects are kept as the settings say',
    ask: async (probe) => {
      const { storageClasses, encryption } = probe.options;
      if (storageClasses.size === 0 && !encryption) return { found: 'the default of the bucket' };
      for (const folder of storageClasses.size > 0 ? storageClasses.keys() : ['segments'])
        await probe.put(`stored/${folder}`, 'x', undefined, storageOf(probe.options, folder));
      const classes = [...storageClasses].map(([folder, name]) => `${folder} ${name}`);
      return { found: [...classes, ...(encryption ? [encryption.algorithm] : [])].join(', ') };
    },
  },
  {
    what: 'list with continuation',
    meaning: 'what is stored can be verified; orphans can be found',
    ask: async (probe) => {
      // upper case sorts before lower case in bytes, and not in any language
      const wanted = ['l/Z', 'l/a-b', 'l/a.b', 'l/a/b', 'l/b', 'l/c'];
      for (const name of wanted.toReversed()) await probe.put(name, name);
      const { names, pages } = await probe.names('l/', 2);
      const missing = wanted.filter((name) => !names.includes(name));
      if (missing.length > 0)
        return failed(`${missing.length} of ${wanted.length} names were lost between pages`);
      if (names.length > wanted.length) return failed('names were listed twice');
      return { found: `${names.length} names on ${pages} pages` };
    },
  },
  {
    what: 'ranged reads',
    meaning: 'single records and segments can be read without their whole object',
    ask: async (probe) => {
      await probe.put('r', '0123456789');
      const got = [
        await probe.text('r', { start: 2, end: 5 }),
        await probe.text('r', { start: 7 }),
        await probe.text('r', { start: -2 }),
      ];
      if (got.join() !== '234,789,89') return failed(`asked for 234, 789 and 89, was given ${got}`);
      const past = await probe.failureOf(() => probe.text('r', { start: 50 }));
      return past?.kind === 'range'
        ? { found: 'right; past the end: 416' }
        : { result: 'warning', found: `right; past the end: ${past?.code ?? 'something'}` };
    },
  },
  {
    what: 'create once',
    meaning: 'an object is never overwritten',
    ask: async (probe) => {
      const condition = { absent: true } as const;
      await probe.put('once', 'first', condition);
      const failure = await probe.failureOf(() => probe.put('once', 'second', condition));
      if (failure === undefined)
        return failed('If-None-Match: * is accepted and ignored', 'two agents would overwrite each other');
      if (failure.kind !== 'condition') return failed(`${failure.status} ${failure.code}`);
      return race(probe, 'once-race', condition);
    },
  },
  {
    what: 'compare and swap',
    meaning: 'two agents cannot both write the same history',
    ask: async (probe) => {
      const stale = await probe.put('swap', 'a');
      const bare = stale.replace(/^"(.*)"$/, '$1');
      const etag = await probe.put('swap', 'b');
      const accepted = await probe.failureOf(() => probe.put('swap', 'c', { etag: stale }));
      if (accepted === undefined)
        return failed(
          'If-Match with an old ETag is accepted and ignored',
          'two agents would overwrite each other',
        );
      if (accepted.kind !== 'condition') return failed(`${accepted.status} ${accepted.code}`);
      const isQuotedKnown = (await probe.failureOf(() => probe.put('swap', 'd', { etag }))) === undefined;
      const { etag: now } = await probe.send((a) => head(a, probe.options.bucket, probe.key('swap')));
      const form = isQuotedKnown ? now : now.replace(/^"(.*)"$/, '$1');
      const raced = await race(probe, 'swap', { etag: form });
      const how = isQuotedKnown ? '' : `; ETags are wanted without quotes (${bare.length} characters)`;
      return { ...raced, found: `${raced.found}${how}` };
    },
  },
  {
    what: 'upload in parts',
    meaning: 'large objects go up in parts, side by side',
    ask: async (probe) => {
      const found = await uploadInParts(probe, 'parts');
      return found.bytes === PART_BYTES + 3 ? { found: '2 parts' } : failed(`${found.bytes} bytes arrived`);
    },
  },
  {
    what: 'condition on an upload in parts',
    meaning: 'pitr does not rely on it: it takes the name first',
    isOptional: true,
    ask: async (probe) => {
      await probe.put('parts-once', 'first');
      const failure = await probe.failureOf(() => uploadInParts(probe, 'parts-once', { IfNoneMatch: '*' }));
      return { found: failure ? `kept (${failure.code})` : 'accepted and ignored' };
    },
  },
  {
    what: 'unfinished uploads',
    meaning: 'agents remove the parts that crashes leave behind',
    isOptional: true,
    ask: async (probe) => {
      await beginUpload(probe, 'unfinished');
      const { leftovers } = probe;
      const listed = async (): Promise<Leftover[]> => {
        const found: Leftover[] = [];
        for await (const page of leftovers.list()) found.push(...page);
        return found;
      };
      const found = await listed();
      await leftovers.remove(found);
      return found.length > 0 && (await listed()).length === 0
        ? { found: 'listed and removed' }
        : {
            result: 'warning',
            found: 'they are not listed, or not removed',
            meaning: 'have a lifecycle rule that removes them (AbortIncompleteMultipartUpload)',
          };
    },
  },
  {
    what: 'delete',
    meaning: 'what is not needed any more goes, and what does not go is known',
    ask: async (probe) => {
      await probe.put('gone/a', 'a');
      await probe.put('gone/b', 'b');
      const failures = await probe.remove(['gone/a', 'gone/b', 'gone/never']);
      const { names } = await probe.names('gone/');
      return failures === 0 && names.length === 0
        ? { found: 'each key has its result, absent ones count as deleted' }
        : failed(`${failures} of 3 failed, ${names.length} are still listed`);
    },
  },
  {
    what: 'clock',
    meaning: 'requests are refused when clocks differ by a quarter of an hour',
    ask: async (probe) => {
      const offsetMs = await clockOffsetMs(probe);
      if (offsetMs === undefined) return { result: 'warning', found: 'the provider does not say its time' };
      const found = `this machine is ${Math.abs(offsetMs / 1000).toFixed(0)} s ${offsetMs < 0 ? 'behind' : 'ahead'}`;
      const size = Math.abs(offsetMs);
      return size >= SKEW_MS_MAX ? failed(found) : { result: size > SKEW_MS_WARN ? 'warning' : 'ok', found };
    },
  },
  {
    what: 'lifecycle rules',
    meaning: 'nothing but pitr deletes what restores need',
    isOptional: true,
    ask: (probe) => lifecycle(probe),
  },
  {
    what: 'object lock',
    meaning: 'what is locked cannot be pruned before its time',
    isOptional: true,
    ask: (probe) => objectLock(probe),
  },
];

const beginUpload = (probe: Probe, name: string): Promise<string | undefined> =>
  probe.send(async ({ sdk, client, signal }) => {
    const command = new sdk.CreateMultipartUploadCommand({
      Bucket: probe.options.bucket,
      Key: probe.key(name),
    });
    return (await client.send(command, { abortSignal: signal })).UploadId;
  });

async function uploadInParts(probe: Probe, name: string, condition: { IfNoneMatch?: string } = {}) {
  const { bucket: Bucket } = probe.options;
  const Key = probe.key(name);
  const UploadId = await beginUpload(probe, name);
  const bodies = [Buffer.alloc(PART_BYTES), Buffer.from('end')];
  try {
    const Parts = await Promise.all(
      bodies.map((Body, i) =>
        probe.send(async ({ sdk, client, signal }) => {
          const command = new sdk.UploadPartCommand({ Bucket, Key, UploadId, PartNumber: i + 1, Body });
          const { ETag } = await client.send(command, { abortSignal: signal });
          return { ETag, PartNumber: i + 1 };
        }),
      ),
    );
    await probe.send(async ({ sdk, client, signal }) =>
      client.send(
        new sdk.CompleteMultipartUploadCommand({
          Bucket,
          Key,
          UploadId,
          MultipartUpload: { Parts },
          ...condition,
        }),
        { abortSignal: signal },
      ),
    );
  } catch (error) {
    await probe.failureOf(() =>
      probe.send(({ sdk, client, signal }) =>
        client.send(new sdk.AbortMultipartUploadCommand({ Bucket, Key, UploadId }), { abortSignal: signal }),
      ),
    );
    throw error;
  }
  return probe.send((attempt) => head(attempt, Bucket, Key));
}

/** Ours minus the provider's, to the second, which is how exactly HTTP tells it. */
async function clockOffsetMs(probe: Probe): Promise<number | undefined> {
  let date: string | undefined;
  await probe.send(async ({ sdk, client, signal }) => {
    const command = new sdk.HeadObjectCommand({ Bucket: probe.options.bucket, Key: probe.key('a') });
    command.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args);
        date = (result.response as { headers?: Record<string, string> }).headers?.date;
        return result;
      },
      { step: 'deserialize', priority: 'high' },
    );
    return client.send(command, { abortSignal: signal });
  });
  const theirsMs = date === undefined ? Number.NaN : Date.parse(date);
  if (Number.isNaN(theirsMs)) return undefined;
  const offsetMs = probe.timing.nowMs() - theirsMs;
  // their second may have begun up to a second ago
  return offsetMs > 0 && offsetMs < 1500 ? 0 : offsetMs;
}

/**
 * Asks everything. Without a bucket, or without access to it, the first answer is the only one.
 * @param folder the name of a folder that nobody else uses
 * @param windowMs how far back instants shall be restorable, to which the settings of the bucket are compared
 */
export async function probeS3(
  url: string,
  folder: string,
  timing: Timing,
  windowMs?: number,
): Promise<Finding[]> {
  const { triesMax } = parseS3Url(url);
  const store = new S3Store({
    url: withS3Parameters(url, { tries: `${Math.min(triesMax, TRIES_MAX)}` }),
    timing,
  });
  const { prefix, bucket } = store.options;
  const probe = new Probe(store, timing, `${prefix === '' ? '' : `${prefix}/`}${folder}/`, windowMs);
  const findings: Finding[] = [];
  try {
    for (const { what, meaning, isOptional, ask } of QUESTIONS) {
      const answer = await ask(probe).catch((error): Answer => {
        if (!(error instanceof S3Failure || error instanceof PitrError)) throw error;
        const told =
          error instanceof PitrError ? error : errorOf(error, { op: what, name: folder, url, bucket });
        return { result: isOptional ? 'warning' : 'failed', found: told.message, meaning: told.hint };
      });
      findings.push({ what, result: 'ok', meaning, ...answer });
      if (findings.length === 1 && findings[0]!.result === 'failed') return findings;
    }
    return findings;
  } finally {
    await cleanUp(probe, findings);
  }
}

async function cleanUp(probe: Probe, findings: Finding[]): Promise<void> {
  const what = 'nothing is left behind';
  const meaning = 'what the questions wrote is removed';
  try {
    const { names } = await probe.names('');
    if (names.length > 0) await probe.remove(names);
    const left = (await probe.names('')).names.length;
    if (left === 0) findings.push({ what, result: 'ok', found: `${names.length} objects removed`, meaning });
    else
      findings.push({
        what,
        result: 'failed',
        found: `${left} objects are left in ${probe.key('')}`,
        meaning,
      });
  } catch (error) {
    if (!(error instanceof S3Failure || error instanceof PitrError)) throw error;
    if (findings.length > 1)
      findings.push({
        what,
        result: 'failed',
        found: error.message,
        meaning: `remove ${probe.key('')} by hand`,
      });
  }
}
