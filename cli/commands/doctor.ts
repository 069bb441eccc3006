import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { isLocked, writerLockPath } from '../../engine/directory-lock.ts';
import { isPitrError, PitrError } from '../../engine/errors.ts';
import { readIdentity } from '../../engine/identity.ts';
import { absoluteUrl, directoryOf, openObjectStore } from '../../engine/open-object-store.ts';
import { isS3Url } from '../../engine/s3-options.ts';
import { type Finding, probeS3 } from '../../engine/s3-probe.ts';
import { systemTiming } from '../../engine/timing.ts';
import { Archive } from '../../wal/archive.ts';
import { SETTINGS, type SettingPath } from '../config.ts';
import { withS3Settings } from '../object-storage.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { renderFields, renderTable } from '../render/table.ts';
import { formatBytes, formatDuration } from '../render/units.ts';
import type { Runner, Session } from '../session.ts';

interface Check {
  readonly what: string;
  readonly ok: boolean;
  readonly found: string;
  /** Of questions to a provider: what it means for an archive. `ok` may carry a warning. */
  readonly result?: Finding['result'];
  readonly meaning?: string;
}

const RACERS = 20;
/** Folder of the probes of all doctors. */
const PROBES = 'doctor';
const probeFolder = (): string => `${PROBES}/${randomBytes(8).toString('hex')}`;

export const registerDoctor = (program: PitrCommand, runner: Runner): void => {
  program
    .command('doctor')
    .about(
      'check machine, configuration, directories and archive',
      'Says where each setting comes from, and checks what pitr relies on: the Node release, hashes and compression, engine directories and who ' +
        "has them open, and whether the archive's storage keeps its promises (create once, compare and swap, ranged reads). " +
        'A bucket is asked in more detail: listings, uploads in parts, deletions, clock, lifecycle rules, object lock; the ' +
        'last two are compared with the wanted window. ' +
        `Probe objects go below ${PROBES}/ and are removed. Exit code 1 when a check fails.`,
    )
    .argument('[dir...]', 'engine directories')
    .option('--archive <url>', 'the archive, or where one shall be')
    .option('--window <duration>', 'how far back instants shall be restorable, such as 7d')
    .examples(
      ['pitr doctor', 'the machine and the settings'],
      ['pitr doctor data --archive file:/backup/db', 'before the first agent is started'],
      ['pitr doctor --archive s3://backup/db --window 7d', 'before a bucket is trusted'],
    )
    .action(runner.action(runDoctor));
};

const runDoctor = async (session: Session, args: string[]): Promise<number> => {
  const { config, origins } = session;
  const checks: Check[] = [
    await check('Node', nodeRelease),
    await check('RIPEMD-160, zstd, crc32', primitives),
  ];
  const dirs = args.length > 0 ? args : config.dirs;
  let url = config.archive;
  for (const dir of dirs) {
    checks.push(await check(`engine ${dir}`, () => engineState(dir)));
    url ??= (await readIdentity(dir).catch(() => undefined))?.archive?.url;
  }
  if (url !== undefined) {
    const archive = withS3Settings(absoluteUrl(url), config.s3);
    checks.push(await check(`archive ${archive}`, () => archiveState(archive)));
    if (isS3Url(archive)) checks.push(...(await providerChecks(archive, config.windowMs)));
    else checks.push(...(await directoryChecks(archive)));
  }
  const machine = checks.filter((c) => c.result === undefined);
  const provider = checks.filter((c) => c.result !== undefined);
  const settings = (Object.keys(SETTINGS) as SettingPath[]).map((path) => ({ path, origin: origins[path] }));
  const failed = checks.filter((c) => !c.ok).length;
  session.emit({ ok: failed === 0, checks, settings, config }, () =>
    [
      renderTable(
        [{ title: '' }, { title: 'check' }, { title: 'found' }],
        machine.map((c) => [c.ok ? 'ok' : 'FAILED', c.what, c.found]),
      ),
      // what failed is said in full, which a table has no room for
      ...(machine.every((c) => c.ok)
        ? []
        : [renderFields(machine.filter((c) => !c.ok).map((c) => ['FAILED', `${c.what}\n→ ${c.found}`]))]),
      ...(provider.length === 0
        ? []
        : [renderFields(provider.map((c) => [providerLabel(c), `${c.found}\n→ ${c.meaning}`]))]),
      renderTable(
        [{ title: 'setting' }, { title: 'value' }, { title: 'from' }],
        settings.map((s) => [s.path, settingText(config, s.path), s.origin]),
      ),
      failed === 0
        ? 'everything is as it should be'
        : `${failed} ${failed === 1 ? 'check' : 'checks'} failed`,
    ].join('\n\n'),
  );
  return failed === 0 ? 0 : 1;
};

const check = async (what: string, run: () => Promise<string> | string): Promise<Check> => {
  try {
    return { what, ok: true, found: await run() };
  } catch (error) {
    const hint = error instanceof PitrError ? ` (${error.hint})` : '';
    return { what, ok: false, found: `${(error as Error).message}${hint}` };
  }
};

/** A store removes no folders, so what the probes leave empty is removed here. */
const directoryChecks = async (url: string): Promise<Check[]> => {
  const folder = probeFolder();
  const created = `${folder}/create`;
  const swapped = `${folder}/swap`;
  try {
    return [
      await check('create once', () => probeCreate(url, created)),
      await check('compare and swap', () => probeSwap(url, swapped)),
    ];
  } finally {
    // not empty: somebody else asks at this moment
    for (const name of [swapped, folder, PROBES])
      await fs.rmdir(join(directoryOf(url), name)).catch(() => undefined);
  }
};

const providerChecks = async (url: string, windowMs: number | undefined): Promise<Check[]> => {
  try {
    const findings = await probeS3(url, probeFolder(), systemTiming, windowMs);
    return findings.map((finding) => ({ ...finding, ok: finding.result !== 'failed' }));
  } catch (error) {
    if (!(error instanceof PitrError)) throw error;
    return [{ what: 'provider', ok: false, found: `${error.message} (${error.hint})` }];
  }
};

const LABELS: Readonly<Record<Finding['result'], string>> = {
  ok: 'ok      ',
  warning: 'warning ',
  failed: 'FAILED  ',
};
const providerLabel = ({ what, result }: Check): string => `${LABELS[result ?? 'ok']}${what}`;

const settingText = (config: Session['config'], path: SettingPath): string => {
  let value: unknown = config;
  for (const part of path.split('.')) value = (value as Record<string, unknown> | undefined)?.[part];
  if (path === 'seal') value = `${config.sealMs} ms`;
  if (path === 'window' && config.windowMs !== undefined) value = formatDuration(config.windowMs);
  return value === undefined ? '-' : Array.isArray(value) ? value.join(', ') || '-' : String(value);
};

const nodeRelease = (): string => {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 22 || (major === 22 && minor < 18))
    throw new Error(`${process.version}; pitr needs 22.18 or newer`);
  return process.version;
};

const primitives = async (): Promise<string> => {
  const { createHash } = await import('node:crypto');
  const zlib = await import('node:zlib');
  if (createHash('ripemd160').update('').digest('hex') !== '9c1185a5c5e9fc54612808977ee8f548b2258d31')
    throw new Error('RIPEMD-160 is wrong');
  if (zlib.zstdDecompressSync(zlib.zstdCompressSync(Buffer.from('pitr'))).toString() !== 'pitr')
    throw new Error('zstd is wrong');
  if (zlib.crc32('123456789') !== 0xcbf43926) throw new Error('crc32 is wrong');
  return 'work';
};

const engineState = async (dir: string): Promise<string> => {
  const { stream, partitions } = await readIdentity(dir);
  const writer = isLocked(writerLockPath(dir)) ? 'open' : 'closed';
  const agent = isLocked(join(dir, 'agent.lock')) ? 'agent running' : 'no agent';
  const { bavail, bsize } = await fs.statfs(dir);
  return `stream ${stream}, partitions ${partitions}, ${writer}, ${agent}, ${formatBytes(bavail * bsize)} free`;
};

const archiveState = async (url: string): Promise<string> => {
  const archive = await Archive.open(url).catch((error) => {
    if (isPitrError(error, 'archive-not-found')) return undefined;
    throw error;
  });
  if (archive === undefined) return 'none yet: pitr init makes one';
  const { timelines } = await archive.timelines();
  return `id ${archive.id}, ${timelines.length} ${timelines.length === 1 ? 'timeline' : 'timelines'}`;
};

const probeCreate = async (url: string, name: string): Promise<string> => {
  const store = openObjectStore(url);
  const results = await Promise.allSettled(
    Array.from({ length: RACERS }, (_, i) => store.create(name, Buffer.from(`writer ${i}`))),
  );
  const winners = results.filter((r) => r.status === 'fulfilled').length;
  const tail = (await store.read(name, { start: -1 })).toString();
  await store.delete([name]);
  if (winners !== 1) throw new Error(`${winners} of ${RACERS} creators of one object won`);
  if (!/^\d$/.test(tail)) throw new Error('a ranged read gave something else');
  return `one of ${RACERS} creators won, ranged read is right`;
};

const probeSwap = async (url: string, name: string): Promise<string> => {
  const store = openObjectStore(url);
  const first = await store.swap(name, undefined, Buffer.from('0'));
  const results = await Promise.allSettled(
    Array.from({ length: RACERS }, (_, i) => store.swap(name, first, Buffer.from(String(i)))),
  );
  const winners = results.filter((r) => r.status === 'fulfilled').length;
  const objects = await store.list(`${name}/`);
  await store.delete(objects.map((o) => o.name));
  if (winners !== 1) throw new Error(`${winners} of ${RACERS} swaps of one value won`);
  return `one of ${RACERS} swaps won`;
};
