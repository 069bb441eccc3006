import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type ConfigSources, loadConfig, SETTINGS } from '../../cli/config.ts';
import { isPitrError } from '../../engine/errors.ts';

const root = mkdtempSync(join(tmpdir(), 'pitr-config-'));
after(() => rmSync(root, { recursive: true }));

function load(yaml: string | undefined, { env = {}, flags = {}, file }: Partial<ConfigSources> = {}) {
  const cwd = mkdtempSync(join(root, 'cwd-'));
  if (yaml !== undefined) writeFileSync(join(cwd, 'pitr.yaml'), yaml);
  return loadConfig({ cwd, env, flags, ...(file === undefined ? {} : { file }) });
}

function assertInvalid(run: () => unknown, path: string, what: RegExp): void {
  assert.throws(run, (error) => {
    assert.ok(isPitrError(error, 'config-invalid'), String(error));
    assert.equal(error.facts.path, path);
    assert.match(String(error.facts.what), what);
    return true;
  });
}

test('without any source every setting has its default and says so', () => {
  const { config, origins } = load(undefined);
  const { workers, ...rest } = config;
  assert.deepEqual(rest, {
    dirs: [],
    s3: {},
    sealMs: 1000,
    snapshot: { kind: 'incremental' },
    spool: {
      policy: 'spill',
      quota: 10 * 1024 ** 3,
      spillQuota: 10 * 1024 ** 3,
      blockTimeout: 60_000,
      minFree: 0,
    },
    capture: { poll: 1000, groups: 16 },
    compact: { fanout: 8 },
    sweep: { margin: 86_400_000, every: 3_600_000 },
    metrics: { host: '127.0.0.1' },
    prices: { put: 0.005, get: 0.0004, gb: 0.023 },
    ttl: 'remaining',
    log: { level: 'info', format: 'pretty' },
    waitSeconds: 60,
  });
  assert.ok(workers >= 1 && workers <= 64);
  assert.deepEqual(Object.keys(origins), Object.keys(SETTINGS));
  assert.deepEqual(new Set(Object.values(origins)), new Set(['default']));
});

test('a flag wins over the environment, the environment over the file, the file over the default', () => {
  const yaml = 'seal: 2s\nworkers: 2\nlog:\n  level: warn\n  format: json\n';
  const env = { PITR_SEAL: '3s', PITR_WORKERS: '3', PITR_LOG_LEVEL: '' };
  const { config, origins } = load(yaml, { env, flags: { seal: '4s', workers: undefined, json: true } });
  assert.deepEqual([config.sealMs, config.workers, config.log], [4000, 3, { level: 'warn', format: 'json' }]);
  assert.equal(origins.seal, 'flag --seal');
  assert.equal(origins.workers, 'env PITR_WORKERS');
  assert.equal(origins['log.level'], 'pitr.yaml:4');
  assert.equal(origins.ttl, 'default');
});

test('each setting can come from its variable and from its flag', () => {
  const values: Record<keyof typeof SETTINGS, string> = {
    archive: 'file:/a',
    dirs: '/x,/y',
    's3.endpoint': 'https://s3.example:9000',
    's3.region': 'eu-west-1',
    's3.pathStyle': 'false',
    's3.profile': 'backup',
    's3.singleWriter': 'true',
    's3.storageClass': 'segments:STANDARD_IA',
    's3.encryption': 'aws:kms:key/1',
    's3.requests': '4',
    's3.bandwidth': '12.5',
    's3.partSize': '8',
    's3.timeout': '5',
    's3.tries': '3',
    seal: '5s',
    'snapshot.cron': '0 3 * * *',
    'snapshot.kind': 'full',
    'snapshot.label': 'nightly',
    'spool.policy': 'drop-with-gap',
    'spool.quota': '512MiB',
    'spool.spillDir': '/spill',
    'spool.spillQuota': '1.5GB',
    'spool.blockTimeout': '2m',
    'spool.minFree': '0',
    'metrics.port': '9464',
    'metrics.host': '::1',
    'metrics.maxLag': '1m',
    'capture.poll': '500ms',
    'capture.groups': '32',
    'capture.recordsPerSecond': '100000',
    'capture.bandwidth': '10MiB',
    'compact.fanout': '16',
    'sweep.margin': 'off',
    'sweep.every': '10m',
    'prices.put': '0.0054',
    'prices.get': '0',
    'prices.gb': '1',
    workers: '9',
    ttl: 'never',
    'log.level': 'debug',
    'log.format': 'json',
    waitSeconds: '7',
    window: '7d',
  };
  const expected = {
    archive: 'file:/a',
    dirs: ['/x', '/y'],
    s3: {
      endpoint: 'https://s3.example:9000',
      region: 'eu-west-1',
      pathStyle: 'false',
      profile: 'backup',
      singleWriter: 'true',
      storageClass: 'segments:STANDARD_IA',
      encryption: 'aws:kms:key/1',
      requests: '4',
      bandwidth: '12.5',
      partSize: '8',
      timeout: '5',
      tries: '3',
    },
    sealMs: 5000,
    snapshot: { cron: '0 3 * * *', kind: 'full', label: 'nightly' },
    spool: {
      policy: 'drop-with-gap',
      quota: 512 * 1024 ** 2,
      spillDir: '/spill',
      spillQuota: 1_500_000_000,
      blockTimeout: 120_000,
      minFree: 0,
    },
    capture: { poll: 500, groups: 32, recordsPerSecond: 100_000, bandwidth: 10 * 1024 ** 2 },
    compact: { fanout: 16 },
    sweep: { margin: 'off', every: 600_000 },
    metrics: { port: 9464, host: '::1', maxLag: 60_000 },
    prices: { put: 0.0054, get: 0, gb: 1 },
    workers: 9,
    ttl: 'never',
    log: { level: 'debug', format: 'json' },
    waitSeconds: 7,
    windowMs: 7 * 86_400_000,
  };
  const paths = Object.keys(values) as (keyof typeof SETTINGS)[];
  const env = Object.fromEntries(paths.map((path) => [SETTINGS[path].env, values[path]]));
  const flags = Object.fromEntries(paths.map((path) => [SETTINGS[path].flag, values[path]]));
  assert.deepEqual(load(undefined, { env }).config, expected);
  assert.deepEqual(load(undefined, { flags }).config, expected);
  assert.equal(load(undefined, { flags }).origins['snapshot.cron'], 'flag --snapshot-cron');
});

test('directories are a list in the file and in flags', () => {
  assert.deepEqual(load('dirs:\n  - /a,b\n  - /c\n').config.dirs, ['/a,b', '/c']);
  assert.deepEqual(load(undefined, { flags: { dir: ['/a', '/b'] } }).config.dirs, ['/a', '/b']);
});

test('an unknown key names its line and the nearest known key', () => {
  assertInvalid(() => load('seal: 1s\narchve: file:/a\n'), 'pitr.yaml:2', /archve.*mean archive\?/);
  assertInvalid(() => load('log:\n  levle: info\n'), 'pitr.yaml:2', /log\.levle.*mean log\.level\?/);
  assertInvalid(() => load('level: info\n'), 'pitr.yaml:1', /mean log\.level\?/);
  assertInvalid(() => load('wait_seconds: 5\n'), 'pitr.yaml:1', /mean waitSeconds\?/);
  assertInvalid(() => load('"__proto__":\n  level: info\n'), 'pitr.yaml:1', /unknown key __proto__/);
});

test('a bad value is refused with the setting and the place that it came from', () => {
  assertInvalid(() => load('seal: 1\n'), 'pitr.yaml:1', /^seal must be a duration/);
  assertInvalid(() => load('s3:\n  bandwidth: fast\n'), 'pitr.yaml:2', /^s3\.bandwidth must be MiB a second/);
  assertInvalid(() => load('s3:\n  storageClass: segments:GLACIER\n'), 'pitr.yaml:2', /woken up/);
  assertInvalid(() => load('s3:\n  storageClass: heads:STANDARD\n'), 'pitr.yaml:2', /folders segments and/);
  assertInvalid(() => load('spool:\n  quota: 10\n'), 'pitr.yaml:2', /^spool\.quota must be a size/);
  assertInvalid(() => load('spool:\n  quota: 10 parsecs\n'), 'pitr.yaml:2', /is not a size/);
  assertInvalid(() => load('spool:\n  policy: pray\n'), 'pitr.yaml:2', /must be one of spill, block, drop/);
  assertInvalid(() => load('seal: 0s\n'), 'pitr.yaml:1', /^seal must be from/);
  assertInvalid(
    () => load('snapshot:\n  cron: 61 * * * *\n'),
    'pitr.yaml:2',
    /^snapshot\.cron is not a cron/,
  );
  assertInvalid(() => load('snapshot:\n  cron: 0 0 30 2 *\n'), 'pitr.yaml:2', /never comes due/);
  assertInvalid(() => load('archive: ./backup\n'), 'pitr.yaml:1', /^archive must be a URL/);
  assertInvalid(() => load('dirs: [/a, 7]\n'), 'pitr.yaml:1', /^dirs must be text/);
  assertInvalid(() => load(undefined, { env: { PITR_WORKERS: '65' } }), 'env PITR_WORKERS', /from 1 to 64/);
  assertInvalid(() => load(undefined, { env: { PITR_WORKERS: '2x' } }), 'env PITR_WORKERS', /whole number/);
  assertInvalid(
    () => load(undefined, { flags: { compactFanout: '1' } }),
    'flag --compact-fanout',
    /from 2 to 64/,
  );
  assertInvalid(
    () => load(undefined, { flags: { ttl: 'soon' } }),
    'flag --ttl',
    /^ttl must be one of remaining/,
  );
  assertInvalid(
    () => load('ttl: soon\n', { env: { PITR_LOG_LEVEL: 'loud' } }),
    'pitr.yaml:1',
    /^ttl must.*; log\.level must.*\(env PITR_LOG_LEVEL\)$/,
  );
});

test('only the value that wins is checked', () => {
  assert.equal(load('ttl: soon\n', { flags: { ttl: 'never' } }).config.ttl, 'never');
});

test('a file that is not a map, has a section as text, a key twice, or bad syntax is refused by line', () => {
  assertInvalid(() => load('- a\n'), 'pitr.yaml:1', /must be a map/);
  assertInvalid(() => load('log: debug\n'), 'pitr.yaml:1', /log must be a section with level, format/);
  assertInvalid(() => load('ttl: never\nttl: never\n'), 'pitr.yaml:2', /unique/);
  assertInvalid(() => load('log:\n  level: [\n'), 'pitr.yaml:3', /./);
});

test('an empty file, an empty section and an empty value are as if absent', () => {
  for (const yaml of ['', '# nothing\n', '---\n', 'log:\narchive:\n']) {
    assert.deepEqual(load(yaml).config, load(undefined).config, JSON.stringify(yaml));
  }
});

test('a file that was asked for must exist; the default one need not', () => {
  assertInvalid(() => load(undefined, { file: 'other.yaml' }), 'other.yaml', /does not exist/);
  const elsewhere = join(root, 'elsewhere.yaml');
  writeFileSync(elsewhere, 'ttl: never\n');
  const { config, origins } = load('ttl: absolute\n', { file: elsewhere });
  assert.deepEqual([config.ttl, origins.ttl], ['never', `${elsewhere}:1`]);
  assert.throws(
    () => load(undefined, { file: root }),
    (error) => isPitrError(error, 'io'),
  );
});
