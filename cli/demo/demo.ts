/**
 * `npm run demo -- [DIR] [--archive URL]`: the main job on real input. Three writer processes fill a database of 135,233 cities
 * while an agent archives it; one hands its partitions over, goes idle, one is killed; after a day of edits a bad deployment
 * destroys data; then the state of the second before it is restored and compared with the truth that the writers noted down by
 * themselves. The archive is in DIR, or in a new folder below URL: `s3://bucket/prefix`, with settings and credentials from where
 * every command takes them.
 */
import { type ChildProcess, execFile, fork, spawn } from 'node:child_process';
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual, parseArgs, promisify } from 'node:util';
import { readIdentity } from '../../engine/identity.ts';
import { absoluteUrl, openObjectStore } from '../../engine/open-object-store.ts';
import { type CdtMap, Engine, type GeoJson } from '../../index.ts';
import { formatBytes, formatCount, formatDuration, formatIso } from '../render/units.ts';
import { loadCities } from './cities.ts';
import { truthAt } from './truth.ts';
import type { Answer, Job } from './writer.ts';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { archive: { type: 'string' } },
});
const ROOT = resolve(positionals[0] ?? 'pitr-demo');
const CLI = resolve(import.meta.dirname, '../pitr.ts');
/** What somebody keeps elsewhere is not the demo's to remove, so each run has a folder of its own there. */
const newFolder = (url: string): string =>
  url.replace(/\/?(\?|$)/, `/demo-${new Date().toISOString().replace(/\D/g, '')}$1`);
const ARCHIVE =
  flags.archive === undefined ? `file:${join(ROOT, 'archive')}` : newFolder(absoluteUrl(flags.archive));
const STREAMS = [
  { name: 'amsterdam', partitions: '0-1365' },
  { name: 'berlin', partitions: '1366-2730' },
  { name: 'cairo', partitions: '2731-4095' },
] as const;
const COUNTRY = 'NO';
/** Only a directory with this file in it is removed at the next start. */
const MARKER = '.pitr-demo';
const dirOf = (stream: string): string => join(ROOT, stream);
const notesOf = (stream: string): string => join(ROOT, `${stream}.notes`);

const run = promisify(execFile);
const started = performance.now();
const say = (text: string): void => {
  const at = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
  process.stdout.write(`${at} s  ${text}\n`);
};
const chapter = (title: string): void => void process.stdout.write(`\n${title}\n`);

/** Runs a command as a user would; returns its JSON. */
const pitr = async (...args: string[]): Promise<Record<string, unknown>> => {
  const { stdout } = await run(process.execPath, [CLI, ...args, '--json'], { maxBuffer: 2 ** 26 }).catch(
    (error) => {
      // status says by its exit code that something is not green, and still answers
      if (error.stdout?.startsWith('{"pitr":1') && !error.stdout.includes('"error":')) return error;
      throw new Error(`pitr ${args.join(' ')}: ${error.stdout}${error.stderr}`);
    },
  );
  return JSON.parse(stdout);
};
/** The same, and shows what it prints. */
const show = async (...args: string[]): Promise<void> => {
  process.stdout.write(
    `\n$ npm run -s pitr -- ${args.map((a) => a.replace(ROOT, relative('.', ROOT) || '.')).join(' ')}\n`,
  );
  const { stdout } = await run(process.execPath, [CLI, ...args], { maxBuffer: 2 ** 26 }).catch(
    (error) => error,
  );
  process.stdout.write(`${stdout.trimEnd()}\n`);
};

/** A writer in a process of its own. */
class Writer {
  readonly stream: string;
  #process!: ChildProcess;
  #done: ((changes: number) => void) | undefined;
  #failed: (error: Error) => void = () => undefined;
  changes = 0;

  constructor(stream: string) {
    this.stream = stream;
  }

  async start(): Promise<this> {
    this.#process = fork(join(import.meta.dirname, 'writer.ts'), [dirOf(this.stream), notesOf(this.stream)]);
    await new Promise<void>((ready, failed) => {
      this.#process.on('message', (answer: Answer) => {
        if (answer.kind === 'ready') ready();
        else if (answer.kind === 'progress') this.changes = answer.changes;
        else this.#done?.(answer.changes);
      });
      this.#failed = failed;
      this.#process.on('exit', (code) => {
        if (code) this.#failed(new Error(`writer ${this.stream} ended with ${code}`));
      });
    });
    return this;
  }

  do(job: Job): Promise<number> {
    this.changes = 0;
    return new Promise((resolve, reject) => {
      this.#done = resolve;
      this.#failed = reject;
      this.#process.send(job);
    });
  }

  kill(): Promise<void> {
    return new Promise((resolve) => {
      this.#process.once('exit', () => resolve());
      this.#process.kill('SIGKILL');
    });
  }
}

const bytesBelow = async (dir: string): Promise<number> => {
  const files = await readdir(dir, { recursive: true, withFileTypes: true });
  return files.filter((f) => f.isFile()).reduce((n, f) => n + statSync(join(f.parentPath, f.name)).size, 0);
};

if (existsSync(ROOT)) {
  if (!existsSync(join(ROOT, MARKER)) && (await readdir(ROOT)).length > 0)
    throw new Error(`${ROOT} is not a demo's directory`);
  rmSync(ROOT, { recursive: true });
}
await mkdir(ROOT, { recursive: true });
writeFileSync(join(ROOT, MARKER), '');
const cities = loadCities();
const half = cities.length >> 1;

chapter('A database of three engines, one archive');
for (const { name, partitions } of STREAMS) {
  await pitr('init', dirOf(name), '--archive', ARCHIVE, '--stream', name, '--partitions', partitions);
  say(`engine ${name} owns partitions ${partitions}`);
}
const dirs = STREAMS.map((s) => dirOf(s.name));
const agent = spawn(
  process.execPath,
  [
    CLI,
    'agent',
    ...dirs,
    '--snapshot-cron',
    '*/10 * * * * *',
    '--log-format',
    'json',
    '--compact-fanout',
    '4',
  ],
  {
    stdio: ['ignore', 'ignore', 'pipe'],
  },
);
// a demo that fails must not leave its agent behind
process.once('exit', () => agent.kill());
let agentLog = '';
agent.stderr.on('data', (text) => {
  agentLog += text;
});
say('one agent archives all three, with a snapshot every ten seconds');

chapter(`Three writers load ${formatCount(cities.length)} cities`);
const [amsterdam, berlin, cairo] = await Promise.all(STREAMS.map((s) => new Writer(s.name).start()));
let at = performance.now();
const first = await Promise.all(
  [amsterdam, berlin, cairo].map((w) => w.do({ kind: 'load', from: 0, to: half })),
);
const loaded = first.reduce((a, b) => a + b);
say(
  `first half: ${formatCount(loaded)} cities in ${formatDuration(performance.now() - at)}, every batch durable before the next`,
);
await pitr('snapshot', 'create', ...dirs, '--kind', 'full', '--label', 'first-half', '--wait');
say('snapshot first-half taken, nobody was stopped for it');
at = performance.now();
const moved = await pitr(
  'handover',
  dirOf('cairo'),
  '--to',
  dirOf('amsterdam'),
  '--partitions',
  STREAMS[2].partitions,
);
say(
  `cairo handed ${formatCount(moved.records as number)} cities over to amsterdam in ${formatDuration(performance.now() - at)}; it is idle from here on`,
);
const second = amsterdam.do({ kind: 'load', from: half, to: cities.length });
const doomed = berlin.do({ kind: 'load', from: half, to: cities.length });
while (berlin.changes < half / 8) await sleep(5);
await berlin.kill();
say(`berlin is killed with SIGKILL after ${formatCount(berlin.changes)} more cities`);
doomed.catch(() => undefined);
await sleep(1500);
const status = (await pitr('status', '--archive', ARCHIVE)) as { lagMs?: number };
say(
  `meanwhile the agent has recovered and sealed its log; lag of the archive ${formatDuration(status.lagMs ?? 0)}`,
);
await berlin.start();
await Promise.all([second, berlin.do({ kind: 'load', from: half, to: cities.length })]);
say('berlin is back, the second half is loaded');

chapter('A day of edits');
at = performance.now();
const edits = await Promise.all([
  amsterdam.do({ kind: 'edit', count: half / 3, seed: 1 }),
  berlin.do({ kind: 'edit', count: half / 6, seed: 2 }),
]);
say(`${formatCount(edits[0] + edits[1])} good edits in ${formatDuration(performance.now() - at)}`);
await pitr('mark', 'before-deploy', dirOf('amsterdam'));
await sleep(2100);

chapter('A bad deployment');
const badTs = Date.now();
const target = Math.floor(badTs / 1000) * 1000 - 1000;
const damage = await Promise.all([amsterdam, berlin].map((w) => w.do({ kind: 'deploy', country: COUNTRY })));
say(
  `at ${formatIso(badTs)} populations are set to 0 and ${COUNTRY} is deleted: ${formatCount(damage[0] + damage[1])} changes, good edits in between`,
);
await sleep(1200);

await show('status', '--archive', ARCHIVE);
await show('chain', '--archive', ARCHIVE);

chapter('Back to the second before it');
const restored = join(ROOT, 'restored');
const lag = (await pitr('status', '--archive', ARCHIVE)) as { lagMs?: number };
at = performance.now();
await show('restore', '--archive', ARCHIVE, '--to', formatIso(target), '--into', restored);
const rtoMs = performance.now() - at;

const truth = truthAt(
  STREAMS.map((s) => notesOf(s.name)).filter((f) => existsSync(f)),
  target,
);
const engine = await Engine.open({ dir: restored });
let compared = 0;
let people = 0;
let inCountry = 0;
for await (const record of engine.scan({ namespace: 'world', set: 'cities' })) {
  const id = Number(Buffer.from(record.key?.bytes ?? []).readBigInt64BE());
  const { bins } = record;
  const found = {
    name: bins.name,
    names: Object.fromEntries((bins.names as CdtMap).entries),
    country: bins.country,
    population: bins.population,
    tags: bins.tags,
    location: (bins.location as GeoJson).text,
  };
  const wanted = truth.get(id);
  if (!isDeepStrictEqual(found, wanted))
    throw new Error(`city ${id} differs: restored ${JSON.stringify(found)}, truth ${JSON.stringify(wanted)}`);
  compared++;
  people += bins.population as number;
  if (bins.country === COUNTRY) inCountry++;
}
await engine.close();
if (compared !== truth.size) throw new Error(`restored ${compared} cities, the truth has ${truth.size}`);
process.stdout.write('\n');
say(
  `all ${formatCount(compared)} restored cities are equal to the writers' own notes; ${formatCount(inCountry)} in ${COUNTRY}, ${formatCount(people)} people`,
);

await Promise.all([amsterdam, berlin, cairo].map((w) => w.do({ kind: 'close' })));
agent.kill('SIGTERM');
await new Promise((resolve) => agent.once('exit', resolve));
const problems = agentLog
  .split('\n')
  .filter((line) => line.includes('"level":50') || line.includes('"level":"error"'));
// by the URL that the engine keeps: it has the settings
const { archive } = await readIdentity(dirOf('amsterdam'));
const objects = await openObjectStore(archive?.url ?? ARCHIVE).list('');
const archiveBytes = objects.reduce((n, { bytes }) => n + bytes, 0);
const chain = (await pitr('chain', '--archive', ARCHIVE)) as {
  timelines?: { streams: { bytes: number }[] }[];
};
const liveBytes = (chain.timelines ?? []).flatMap((t) => t.streams).reduce((n, s) => n + s.bytes, 0);
const storeBytes = await bytesBelow(restored);
chapter('In short');
say(
  `RTO ${formatDuration(rtoMs)} from the command to a verified engine; RPO ${formatDuration(lag.lagMs ?? 0)} (the archive's lag)`,
);
say(
  `archive ${formatBytes(liveBytes)} with every version (${formatBytes(archiveBytes)} stored until replaced runs are deleted); restored engine ${formatBytes(storeBytes)}`,
);
if (problems.length > 0) throw new Error(`the agent reported: ${problems[0]}`);
const here = relative('.', ROOT) || '.';
const there = flags.archive === undefined ? `file:${here}/archive` : `'${ARCHIVE}'`;
process.stdout.write(`
The archive stays in ${flags.archive === undefined ? here : ARCHIVE}. Play on:

  npm run -s pitr -- chain --archive ${there} --tree
  npm run -s pitr -- get world/cities/3143244 --archive ${there} --at mark:before-deploy
  npm run -s pitr -- restore --archive ${there} --to latest --json-lines --set cities --bin population | head -3
  npm run -s pitr -- restore --archive ${there} --to ${formatIso(badTs + 300)} --dry-run
  npm run -s pitr -- verify --archive ${there}
`);
