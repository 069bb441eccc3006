/**
 * Settings from `pitr.yaml`, environment and flags, checked by one schema. A flag wins over the environment, the
 * environment over the file, the file over the default; only the value that wins is checked. Every setting remembers where
 * its value came from, so that an error can name the place and `pitr doctor` can explain it.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { isAbsolute, relative, resolve } from 'node:path';
import { isMap, isScalar, LineCounter, type Node, parseDocument, type YAMLMap } from 'yaml';
import { z } from 'zod';
import { PitrError } from '../engine/errors.ts';
import { type S3Parameter, withS3Parameters } from '../engine/s3-options.ts';
import { SPOOL_POLICIES } from '../engine/spool.ts';
import { SPOOL_DEFAULTS } from '../wal/spool-settings.ts';
import { parseByteSize } from './byte-size.ts';
import { parseDuration } from './duration.ts';
import { LOG_FORMATS, LOG_LEVELS } from './log.ts';
import { cronRuns } from './schedule.ts';

export const CONFIG_FILE = 'pitr.yaml';
const WORKERS_MAX = 64;
const SEAL_MS_MAX = 3_600_000;
const POLL_MS_MIN = 10;
const POLL_MS_MAX = 3_600_000;
/** A writer that waits longer than a day is taken for one that hangs. */
const BLOCK_MS_MAX = 86_400_000;
const SWEEP_MS_MAX = 30 * 86_400_000;
const SWEEP_EVERY_MS_MAX = 86_400_000;
const WAIT_SECONDS_MAX = 86_400;
const PORT_MAX = 65_535;
const LAG_MS_MAX = 7 * 86_400_000;
const WINDOW_MS_MIN = 1000;
const WINDOW_MS_MAX = 100 * 366 * 86_400_000;

/** Environment and flags are text, YAML has numbers: the same check for both. */
const int = (min: number, max: number) => {
  const error = `must be a whole number from ${min} to ${max}`;
  const fromText = (value: unknown) =>
    typeof value === 'string' && /^[+-]?\d+$/.test(value) ? Number(value) : value;
  return z.preprocess(fromText, z.int({ error }).min(min, { error }).max(max, { error }));
};

/** In any currency. */
const price = (usual: number) => {
  const error = 'must be a number from 0 on';
  const fromText = (value: unknown) =>
    typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  return z.preprocess(fromText, z.number({ error }).min(0, { error })).prefault(usual);
};

const oneOf = <const T extends readonly string[]>(values: T) =>
  z.enum(values, { error: `must be one of ${values.join(', ')}` });

const text = z.string({ error: 'must be text' }).min(1, { error: 'must not be empty' });

const durationMs = (minMs: number, maxMs: number) =>
  z.string({ error: 'must be a duration with a unit, such as 500ms or 1s' }).transform((value, context) => {
    try {
      const ms = parseDuration(value);
      if (ms >= minMs && ms <= maxMs) return ms;
      context.addIssue(`must be from ${minMs} to ${maxMs} ms`);
    } catch (error) {
      if (!(error instanceof PitrError)) throw error;
      context.addIssue(`${error.message}; ${error.hint}`);
    }
    return z.NEVER;
  });

/** A duration, or `off`. */
const durationOrOff = (minMs: number, maxMs: number) =>
  z.union([z.literal('off'), durationMs(minMs, maxMs)], {
    error: `must be a duration with a unit, such as 24h, from ${minMs} to ${maxMs} ms, or off`,
  });

const byteSize = () =>
  z.string({ error: 'must be a size with a unit, such as 512MiB or 10GiB' }).transform((value, context) => {
    try {
      return parseByteSize(value);
    } catch (error) {
      if (!(error instanceof PitrError)) throw error;
      context.addIssue(`${error.message}; ${error.hint}`);
    }
    return z.NEVER;
  });

const cron = text.superRefine((pattern, context) => {
  try {
    cronRuns(pattern);
  } catch (error) {
    context.addIssue(`is not a cron pattern: ${error instanceof Error ? error.message : error}`);
  }
});

/** Text is a list separated by commas, which is what an environment variable can hold. */
const list = z.preprocess(
  (value) => (typeof value === 'string' ? value.split(',').filter((item) => item !== '') : value),
  z.array(text, { error: 'must be a list of directories' }),
);

/** A setting of object storage has the form that it has in an archive's URL; YAML may write numbers and booleans plainly. */
const s3 = (parameter: S3Parameter) =>
  z
    .preprocess(
      (value) => (typeof value === 'number' || typeof value === 'boolean' ? `${value}` : value),
      text.superRefine((value, context) => {
        try {
          withS3Parameters('s3://bucket', { [parameter]: value });
        } catch (error) {
          if (!(error instanceof PitrError)) throw error;
          context.addIssue(`${error.facts.why}`.replace(/^\S+ /, ''));
        }
      }),
    )
    .optional();

const schema = z
  .object({
    archive: text
      .regex(/^[a-z][a-z0-9+.-]*:./i, { error: 'must be a URL, such as file:DIR or s3://BUCKET/PREFIX' })
      .optional(),
    s3: z.object({
      endpoint: s3('endpoint'),
      region: s3('region'),
      pathStyle: s3('path-style'),
      profile: s3('profile'),
      singleWriter: s3('single-writer'),
      storageClass: s3('storage-class'),
      encryption: s3('encryption'),
      requests: s3('requests'),
      bandwidth: s3('bandwidth'),
      partSize: s3('part-size'),
      timeout: s3('timeout'),
      tries: s3('tries'),
    }),
    dirs: list.default([]),
    seal: durationMs(1, SEAL_MS_MAX).prefault('1s'),
    snapshot: z.object({
      cron: cron.optional(),
      kind: oneOf(['full', 'incremental']).default('incremental'),
      label: text.optional(),
    }),
    spool: z.object({
      policy: oneOf(SPOOL_POLICIES).default(SPOOL_DEFAULTS.policy),
      quota: byteSize().default(SPOOL_DEFAULTS.quotaBytes),
      spillDir: text.optional(),
      spillQuota: byteSize().default(SPOOL_DEFAULTS.spillBytes),
      blockTimeout: durationMs(0, BLOCK_MS_MAX).default(SPOOL_DEFAULTS.blockTimeoutMs),
      minFree: byteSize().default(SPOOL_DEFAULTS.minFreeBytes),
    }),
    capture: z.object({
      poll: durationMs(POLL_MS_MIN, POLL_MS_MAX).prefault('1s'),
      groups: int(1, 64).default(16),
      recordsPerSecond: int(1, 1_000_000_000).optional(),
      bandwidth: byteSize().optional(),
    }),
    compact: z.object({ fanout: int(2, 64).default(8) }),
    sweep: z.object({
      margin: durationOrOff(1, SWEEP_MS_MAX).prefault('24h'),
      every: durationMs(1, SWEEP_EVERY_MS_MAX).prefault('1h'),
    }),
    metrics: z.object({
      port: int(0, PORT_MAX).optional(),
      host: text.default('127.0.0.1'),
      maxLag: durationMs(1, LAG_MS_MAX).optional(),
    }),
    // an example: docs/archive.md says whose
    prices: z.object({ put: price(0.005), get: price(0.0004), gb: price(0.023) }),
    workers: int(1, WORKERS_MAX).default(() => Math.min(WORKERS_MAX, availableParallelism())),
    ttl: oneOf(['remaining', 'absolute', 'never']).default('remaining'),
    log: z.object({
      level: oneOf(LOG_LEVELS).default('info'),
      format: oneOf(LOG_FORMATS).default('pretty'),
    }),
    waitSeconds: int(0, WAIT_SECONDS_MAX).default(60),
    window: durationMs(WINDOW_MS_MIN, WINDOW_MS_MAX).optional(),
  })
  .transform(({ seal, window, ...rest }) => ({
    ...rest,
    sealMs: seal,
    ...(window === undefined ? {} : { windowMs: window }),
  }));

export type Config = z.output<typeof schema>;

interface Setting {
  readonly env: string;
  /** As commander names it in its options object. */
  readonly flag: string;
}

/** Path in pitr.yaml → its other names. Sections are the parts before a dot. */
export const SETTINGS = {
  archive: { env: 'PITR_ARCHIVE', flag: 'archive' },
  dirs: { env: 'PITR_DIR', flag: 'dir' },
  's3.endpoint': { env: 'PITR_S3_ENDPOINT', flag: 's3Endpoint' },
  's3.region': { env: 'PITR_S3_REGION', flag: 's3Region' },
  's3.pathStyle': { env: 'PITR_S3_PATH_STYLE', flag: 's3PathStyle' },
  's3.profile': { env: 'PITR_S3_PROFILE', flag: 's3Profile' },
  's3.singleWriter': { env: 'PITR_S3_SINGLE_WRITER', flag: 's3SingleWriter' },
  's3.storageClass': { env: 'PITR_S3_STORAGE_CLASS', flag: 's3StorageClass' },
  's3.encryption': { env: 'PITR_S3_ENCRYPTION', flag: 's3Encryption' },
  's3.requests': { env: 'PITR_S3_REQUESTS', flag: 's3Requests' },
  's3.bandwidth': { env: 'PITR_S3_BANDWIDTH', flag: 's3Bandwidth' },
  's3.partSize': { env: 'PITR_S3_PART_SIZE', flag: 's3PartSize' },
  's3.timeout': { env: 'PITR_S3_TIMEOUT', flag: 's3Timeout' },
  's3.tries': { env: 'PITR_S3_TRIES', flag: 's3Tries' },
  seal: { env: 'PITR_SEAL', flag: 'seal' },
  'snapshot.cron': { env: 'PITR_SNAPSHOT_CRON', flag: 'snapshotCron' },
  'snapshot.kind': { env: 'PITR_SNAPSHOT_KIND', flag: 'snapshotKind' },
  'snapshot.label': { env: 'PITR_SNAPSHOT_LABEL', flag: 'snapshotLabel' },
  'spool.policy': { env: 'PITR_LOG_POLICY', flag: 'logPolicy' },
  'spool.quota': { env: 'PITR_LOG_QUOTA', flag: 'logQuota' },
  'spool.spillDir': { env: 'PITR_SPILL_DIR', flag: 'spillDir' },
  'spool.spillQuota': { env: 'PITR_SPILL_QUOTA', flag: 'spillQuota' },
  'spool.blockTimeout': { env: 'PITR_BLOCK_TIMEOUT', flag: 'blockTimeout' },
  'spool.minFree': { env: 'PITR_MIN_FREE', flag: 'minFree' },
  'metrics.port': { env: 'PITR_METRICS_PORT', flag: 'metricsPort' },
  'metrics.host': { env: 'PITR_METRICS_HOST', flag: 'metricsHost' },
  'metrics.maxLag': { env: 'PITR_METRICS_MAX_LAG', flag: 'metricsMaxLag' },
  'capture.poll': { env: 'PITR_POLL', flag: 'poll' },
  'capture.groups': { env: 'PITR_POLL_GROUPS', flag: 'pollGroups' },
  'capture.recordsPerSecond': { env: 'PITR_CAPTURE_RECORDS', flag: 'sourceRecordsPerSecond' },
  'capture.bandwidth': { env: 'PITR_CAPTURE_BANDWIDTH', flag: 'sourceBandwidth' },
  'compact.fanout': { env: 'PITR_COMPACT_FANOUT', flag: 'compactFanout' },
  'sweep.margin': { env: 'PITR_SWEEP_MARGIN', flag: 'sweepMargin' },
  'sweep.every': { env: 'PITR_SWEEP_EVERY', flag: 'sweepEvery' },
  'prices.put': { env: 'PITR_PRICE_PUT', flag: 'pricePut' },
  'prices.get': { env: 'PITR_PRICE_GET', flag: 'priceGet' },
  'prices.gb': { env: 'PITR_PRICE_GB', flag: 'priceGb' },
  workers: { env: 'PITR_WORKERS', flag: 'workers' },
  ttl: { env: 'PITR_TTL', flag: 'ttl' },
  'log.level': { env: 'PITR_LOG_LEVEL', flag: 'logLevel' },
  'log.format': { env: 'PITR_LOG_FORMAT', flag: 'logFormat' },
  waitSeconds: { env: 'PITR_WAIT_SECONDS', flag: 'waitSeconds' },
  window: { env: 'PITR_WINDOW', flag: 'window' },
} as const satisfies Record<string, Setting>;

export type SettingPath = keyof typeof SETTINGS;
/** `default`, `pitr.yaml:3`, `env PITR_SEAL` or `flag --seal`. */
export type Origins = Readonly<Record<SettingPath, string>>;

const PATHS = Object.keys(SETTINGS) as SettingPath[];
const SECTIONS = new Set(PATHS.filter((path) => path.includes('.')).map((path) => path.split('.')[0]!));

interface Given {
  readonly value: unknown;
  readonly origin: string;
}

export interface ConfigSources {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Commander's options object. Options that are not settings, and those not given, are ignored. */
  readonly flags: Readonly<Record<string, unknown>>;
  /** Must exist when it is named; without it `pitr.yaml` in `cwd` is read if there is one. */
  readonly file?: string;
}

/**
 * Paths among the settings are returned as written: relative ones are relative to `cwd`, wherever the file is.
 *
 * @throws PitrError `config-invalid` (facts: `path` where it was set, `what`), `io` when the file cannot be read
 */
export function loadConfig({ cwd, env, flags, file }: ConfigSources): { config: Config; origins: Origins } {
  const inFile = readSettings(cwd, file);
  const given = new Map<SettingPath, Given>();
  for (const path of PATHS) {
    const { env: variable, flag } = SETTINGS[path];
    const winner = [
      { value: flags[flag], origin: `flag --${kebab(flag)}` },
      // An empty variable is how a shell or a container file unsets one.
      { value: env[variable] || undefined, origin: `env ${variable}` },
      inFile.get(path),
    ].find((candidate) => candidate?.value !== undefined);
    if (winner) given.set(path, winner);
  }

  const raw: Record<string, unknown> = Object.fromEntries([...SECTIONS].map((section) => [section, {}]));
  for (const [path, { value }] of given) {
    const [head, leaf] = path.split('.') as [string, string?];
    if (leaf === undefined) raw[head] = value;
    else (raw[head] as Record<string, unknown>)[leaf] = value;
  }
  const parsed = schema.safeParse(raw);
  if (!parsed.success) throw invalidValue(parsed.error.issues, given);

  const origins = Object.fromEntries(PATHS.map((path) => [path, given.get(path)?.origin ?? 'default']));
  return { config: parsed.data, origins: origins as Origins };
}

/** Names every bad setting and its place; the fact `path` is the place of the first. */
function invalidValue(
  issues: readonly z.core.$ZodIssue[],
  given: ReadonlyMap<SettingPath, Given>,
): PitrError {
  const problems = issues.map((issue) => {
    const path = PATHS.find((known) => `${issue.path.join('.')}.`.startsWith(`${known}.`));
    return { origin: (path && given.get(path)?.origin) ?? 'default', what: `${path} ${issue.message}` };
  });
  const [first, ...others] = problems;
  const what = [first!.what, ...others.map((other) => `${other.what} (${other.origin})`)].join('; ');
  return new PitrError('config-invalid', { path: first!.origin, what });
}

function readSettings(cwd: string, file: string | undefined): ReadonlyMap<SettingPath, Given> {
  const path = resolve(cwd, file ?? CONFIG_FILE);
  const shown = relative(cwd, path);
  const name = shown.startsWith('..') || isAbsolute(shown) ? path : shown;
  let source: string;
  try {
    source = readFileSync(path, 'utf8');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error;
    if (error.code !== 'ENOENT')
      throw new PitrError('io', { op: 'read', path: name, why: error.message }, { cause: error });
    if (file !== undefined)
      throw new PitrError('config-invalid', { path: name, what: 'the file does not exist' });
    return new Map();
  }
  return parseSettings(source, name);
}

function parseSettings(source: string, name: string): ReadonlyMap<SettingPath, Given> {
  const lines = new LineCounter();
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number | undefined) =>
    offset === undefined ? name : `${name}:${lines.linePos(offset).line}`;
  const refuse = (offset: number | undefined, what: string): PitrError =>
    new PitrError('config-invalid', { path: at(offset), what });
  const [syntax] = document.errors;
  if (syntax) throw refuse(syntax.pos[0], syntax.message);

  const plain = (node: Node, offset: number | undefined): unknown => {
    try {
      return node.toJS(document);
    } catch (error) {
      // an alias of an anchor that is not there
      throw refuse(offset, (error as Error).message);
    }
  };
  const found = new Map<SettingPath, Given>();
  const readMap = (map: YAMLMap, section: string): void => {
    for (const { key, value } of map.items as { key: Node; value: Node | null }[]) {
      const offset = key.range?.[0];
      const path = section + (isScalar(key) ? String(key.value) : key.toString());
      const isEmpty = value === null || (isScalar(value) && value.value === null);
      if (isSetting(path)) {
        // A key whose value is commented out is not set.
        if (!isEmpty) found.set(path, { value: plain(value, offset), origin: at(offset) });
      } else if (SECTIONS.has(path)) {
        if (isMap(value)) readMap(value, `${path}.`);
        else if (!isEmpty) throw refuse(offset, `${path} must be a section with ${keysOf(path)}`);
      } else {
        throw refuse(offset, `unknown key ${path}; did you mean ${nearestSetting(path)}?`);
      }
    }
  };
  if (isMap(document.contents)) readMap(document.contents, '');
  else if (document.contents !== null && !(isScalar(document.contents) && document.contents.value === null)) {
    throw refuse(0, 'must be a map of settings');
  }
  return found;
}

const isSetting = (path: string): path is SettingPath => Object.hasOwn(SETTINGS, path);
const kebab = (flag: string): string => flag.replace(/[A-Z]/g, (capital) => `-${capital.toLowerCase()}`);
const keysOf = (section: string): string =>
  PATHS.filter((path) => path.startsWith(`${section}.`))
    .map((path) => path.slice(section.length + 1))
    .join(', ');

/** Also by the last part alone: `level` at the top is meant to be `log.level`. */
function nearestSetting(key: string): string {
  const plain = (name: string): string => name.toLowerCase().replace(/[-_]/g, '');
  const leaf = (name: string): string => name.slice(name.lastIndexOf('.') + 1);
  const distance = (known: string): number =>
    Math.min(
      editDistance(plain(key), plain(known)),
      editDistance(plain(leaf(key)), plain(leaf(known))) + 0.5,
    );
  return [...PATHS, ...SECTIONS].reduce((best, known) => (distance(known) < distance(best) ? known : best));
}

/** Levenshtein's, with one row. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
