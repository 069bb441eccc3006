import { join } from 'node:path';
import { z } from 'zod';
import { type Clock, systemClock } from '../../engine/clock.ts';
import { isPitrError, PitrError } from '../../engine/errors.ts';
import { type Files, nodeFiles } from '../../engine/files.ts';
import {
  type EngineIdentity,
  newIdentity,
  readIdentity,
  writeFileDurably,
  writeIdentity,
} from '../../engine/identity.ts';
import { keptUrl } from '../../engine/open-object-store.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { Archive } from '../archive.ts';
import { ownedPartitions, withEngine } from '../timeline.ts';

/** File in a capture directory that says where its records come from. An engine directory has none. */
export const SOURCE_FILE = 'source.json';
const SOURCE_VERSION = 1;

/** Where records come from, and which. Credentials are not in it. */
export interface CaptureSource {
  readonly kind: 'aerospike' | 'xdr';
  /** `aerospike://host:port,…` or `xdr://host:port`. */
  readonly url: string;
  readonly namespaces: readonly string[];
  /** Null: all sets. */
  readonly sets: readonly string[] | null;
}

const shape = z.object({
  version: z.literal(SOURCE_VERSION),
  kind: z.enum(['aerospike', 'xdr']),
  url: z.string().min(1),
  namespaces: z.array(z.string().min(1)).min(1),
  sets: z.array(z.string()).nullable(),
});

/** Undefined: not a capture directory. @throws format-version, object-corrupt, io */
export const readSource = async (
  dir: string,
  files: Files = nodeFiles,
): Promise<CaptureSource | undefined> => {
  const path = join(dir, SOURCE_FILE);
  const bytes = await files.read(path).catch((cause) => {
    if (cause.code === 'ENOENT') return undefined;
    throw new PitrError('io', { op: 'read', path, why: cause.code }, { cause });
  });
  if (!bytes) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new PitrError('object-corrupt', { name: path, why: 'not JSON' }, { cause });
  }
  const version = (json as { version?: unknown } | null)?.version;
  if (typeof version === 'number' && version !== SOURCE_VERSION)
    throw new PitrError('format-version', { what: path, version, supported: SOURCE_VERSION });
  const parsed = shape.safeParse(json);
  if (!parsed.success)
    throw new PitrError('object-corrupt', { name: path, why: parsed.error.issues[0].message });
  const { version: _, ...source } = parsed.data;
  return source;
};

export const writeSource = (dir: string, source: CaptureSource, files?: Files): Promise<void> =>
  writeFileDurably(
    dir,
    SOURCE_FILE,
    `${JSON.stringify({ version: SOURCE_VERSION, ...source }, null, 2)}\n`,
    files,
  );

export interface InitCaptureOptions {
  readonly archive: string;
  readonly stream?: string;
  /** Default: every partition that has no owner yet. */
  readonly partitions?: PartitionSet;
  readonly shards?: number;
  readonly clock?: Clock;
  readonly files?: Files;
}

/**
 * Makes a capture directory and registers its stream: the first one begins a history, which starts with a base copy; others join it.
 * Making one that is there, from the same source, keeps only how that is reached.
 * @throws usage for another source, ownership-conflict, stream-taken, archive-url, io
 */
export const initCapture = async (
  dir: string,
  source: CaptureSource,
  options: InitCaptureOptions,
): Promise<EngineIdentity> => {
  const { clock = systemClock, files = nodeFiles } = options;
  const existing = await readIdentity(dir, files).catch((error) => {
    if (isPitrError(error, 'not-an-engine')) return undefined;
    throw error;
  });
  if (existing) {
    await keepSource(dir, source, files);
    return existing;
  }
  const archive = await Archive.openOrCreate(options.archive, { clock });
  // a history that began with a copy; that of an engine knows its whole past, and a capture can add nothing to it
  const { timelines } = await archive.timelines();
  const current = timelines.findLast((t) => t.detached && t.parent === null);
  const free = current ? PartitionSet.all.subtract(ownedPartitions(current)) : PartitionSet.all;
  if (free.size === 0 && options.partitions === undefined)
    throw new PitrError('ownership-conflict', {
      partitions: 'all',
      owner: current?.streams.map((s) => s.name).join(', ') ?? 'nobody',
    });
  const identity = newIdentity(
    {
      ...(options.stream === undefined ? {} : { stream: options.stream }),
      ...(options.shards === undefined ? {} : { shards: options.shards }),
      ...(current ? { timeline: current.id } : {}),
      partitions: (options.partitions ?? free).toString(),
      archive: { url: keptUrl(options.archive), id: archive.id },
      detached: true,
    },
    clock.nowMs(),
  );
  // refused before anything is made; the archiver registers again, which changes nothing
  await archive.updateTimelines((all) => withEngine(all, identity, clock.nowMs()));
  await writeSource(dir, source, files);
  await writeIdentity(dir, identity, files);
  return identity;
};

/** The same source may be reached in another way from now on. @throws usage */
const keepSource = async (dir: string, wanted: CaptureSource, files: Files): Promise<void> => {
  const has = await readSource(dir, files);
  const text = (s: CaptureSource | undefined): string =>
    s ? JSON.stringify([s.kind, [...s.namespaces].sort(), s.sets && [...s.sets].sort()]) : 'an engine';
  if (text(has) !== text(wanted))
    throw new PitrError('usage', {
      what: `${dir} captures something else: ${text(has)}, not ${text(wanted)}`,
      hint: 'use another directory; one captures one source',
    });
  if (has?.url !== wanted.url) await writeSource(dir, wanted, files);
};
