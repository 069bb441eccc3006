/**
 * PostgreSQL with pgBackRest, when both are installed: the workload `core` in a cluster of its own on a unix socket, archived
 * as pgBackRest does it by default, and the restore to the instant in the middle of the changes: from `pgbackrest restore`
 * to a server that is out of recovery and answers.
 *
 *     npm run bench -- postgres [--records 1000000] [--changes 1000000] [--runs 3] [--dir DIR]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { chmod, chown, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { median } from '../../cli/bench/measure.ts';
import { type Change, Workload } from '../../cli/bench/workload.ts';
import { benchDirectory, say, wholeNumber } from '../arguments.ts';
import { BATCH, type Peer, WRITERS } from './peer.ts';

const NAME = 'PostgreSQL + pgBackRest';
const STANZA = 'bench';
const READY_MS_MAX = 120_000;
const PORT = '5432'; // only names the socket file: nothing listens on the network

/** Directory of the server's programs, or why there is none. */
const serverBin = (): string | undefined => {
  const root = '/usr/lib/postgresql';
  if (!existsSync(root)) return undefined;
  return readdirSync(root)
    .sort((a, b) => Number(a) - Number(b))
    .map((version) => join(root, version, 'bin'))
    .filter((bin) => existsSync(join(bin, 'initdb')))
    .at(-1);
};

const onPath = (program: string): string | undefined =>
  (process.env.PATH ?? '')
    .split(':')
    .map((dir) => join(dir, program))
    .find((path) => existsSync(path));

/** The server refuses to run as root: then everything runs as the user that its package made. */
const serverUser = (): { uid: number; gid: number } | undefined => {
  if (process.getuid?.() !== 0) return undefined;
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((l) => l.startsWith('postgres:'));
  if (!line) throw new Error('started by root, and there is no user postgres');
  const [, , uid, gid] = line.split(':');
  return { uid: Number(uid), gid: Number(gid) };
};

class Cluster {
  readonly data: string;
  readonly repository: string;
  readonly #dir: string;
  readonly #bin: string;
  readonly #config: string;
  readonly #user: { uid: number; gid: number } | undefined;

  constructor(dir: string, bin: string) {
    this.#dir = dir;
    this.#bin = bin;
    this.data = join(dir, 'data');
    this.repository = join(dir, 'repository');
    this.#config = join(dir, 'pgbackrest.conf');
    this.#user = serverUser();
  }

  async create(): Promise<void> {
    for (const dir of [this.#dir, this.repository, join(this.#dir, 'log'), join(this.#dir, 'lock')]) {
      await mkdir(dir, { recursive: true });
      if (this.#user) await chown(dir, this.#user.uid, this.#user.gid);
      await chmod(dir, 0o700);
    }
    await this.run(join(this.#bin, 'initdb'), ['-D', this.data, '-A', 'trust', '-U', 'postgres']);
    await writeFile(
      this.#config,
      [
        '[global]',
        `repo1-path=${this.repository}`,
        `log-path=${join(this.#dir, 'log')}`,
        `lock-path=${join(this.#dir, 'lock')}`,
        'start-fast=y',
        `[${STANZA}]`,
        `pg1-path=${this.data}`,
        `pg1-socket-path=${this.#dir}`,
        `pg1-port=${PORT}`,
        '',
      ].join('\n'),
    );
    await chmod(this.#config, 0o644);
    const settings = [
      "listen_addresses = ''",
      `unix_socket_directories = '${this.#dir}'`,
      `port = ${PORT}`,
      'archive_mode = on',
      `archive_command = 'pgbackrest --config=${this.#config} --stanza=${STANZA} archive-push %p'`,
      '',
    ];
    await writeFile(join(this.data, 'postgresql.auto.conf'), settings.join('\n'));
    await this.start();
    await this.backrest('stanza-create');
  }

  start(): Promise<string> {
    return this.#control('start', '-w', '-t', '120', '-l', join(this.#dir, 'log', 'server.log'));
  }

  stop(how: 'fast' | 'immediate' = 'fast'): Promise<string> {
    return this.#control('stop', '-w', '-t', '120', '-m', how);
  }

  #control(verb: string, ...args: string[]): Promise<string> {
    return this.run(join(this.#bin, 'pg_ctl'), [verb, '-D', this.data, '-s', ...args]);
  }

  backrest(command: string, ...args: string[]): Promise<string> {
    return this.run('pgbackrest', [`--config=${this.#config}`, `--stanza=${STANZA}`, ...args, command]);
  }

  /** psql in a process, which reads SQL from its stdin. */
  session(...args: string[]): ChildProcess {
    return this.#spawn('psql', [
      ...['-h', this.#dir, '-p', PORT, '-U', 'postgres', '-X', '-q', '-A', '-t'],
      ...['-v', 'ON_ERROR_STOP=1', ...args],
    ]);
  }

  async sql(text: string): Promise<string> {
    return output(this.session('-c', text));
  }

  async run(program: string, args: readonly string[]): Promise<string> {
    return output(this.#spawn(program, args));
  }

  #spawn(program: string, args: readonly string[]): ChildProcess {
    return spawn(program, args, { cwd: this.#dir, stdio: ['pipe', 'pipe', 'pipe'], ...this.#user });
  }

  /** pgbench with one prepared insert-or-update as its transaction. */
  async commitsPerSecond(writers: number, ms: number, script: string): Promise<number> {
    const file = join(this.#dir, 'script.sql');
    await writeFile(file, script);
    await chmod(file, 0o644);
    const text = await this.run(join(this.#bin, 'pgbench'), [
      ...['-h', this.#dir, '-p', PORT, '-U', 'postgres', '-n', '-M', 'prepared', '-f', file],
      ...['-c', String(writers), '-j', '2', '-T', String(Math.max(1, Math.round(ms / 1000))), 'postgres'],
    ]);
    return Number(/tps = ([\d.]+)/.exec(text)?.[1] ?? Number.NaN);
  }
}

const output = async (child: ChildProcess): Promise<string> => {
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.on('data', (text) => {
      texts[name] = (texts[name] + text).slice(-1_000_000);
    });
  child.stdin?.end();
  // a server that pg_ctl has started keeps the pipes open: what counts is the end of the program itself
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('exit', resolve);
  });
  if (code !== 0) throw new Error(`${child.spawnargs.join(' ')} ended with ${code}: ${texts.stderr.trim()}`);
  await sleep(0);
  return texts.stdout.trim();
};

const hex = (workload: Workload, c: Change): string => workload.value(c.key, c.version).toString('hex');

/** Writes to psql as fast as it reads. */
const feed = async (child: ChildProcess, lines: Iterable<string>): Promise<void> => {
  const { stdin } = child;
  if (!stdin) throw new Error('psql has no stdin');
  // when psql ends early, its exit code says so
  stdin.on('error', () => undefined);
  for (const line of lines) {
    if (!stdin.write(line)) await Promise.race([new Promise((r) => stdin.once('drain', r)), sleep(60_000)]);
  }
};

const loadLines = function* (workload: Workload): Generator<string> {
  for (let key = 0; key < workload.records; key++)
    yield `${key}\t\\\\x${hex(workload, { kind: 'insert', key, version: 0 })}\n`;
};

/** One transaction a batch, in it one statement for each kind of change: no record is in a batch twice, so their order is free. */
const changeLines = function* (workload: Workload, changes: number): Generator<string> {
  while (workload.changes < changes) {
    const batch = workload.nextBatch(Math.min(BATCH, changes - workload.changes));
    const rows = (kind: Change['kind']): string[] =>
      batch.filter((c) => c.kind === kind).map((c) => `(${c.key},'\\x${hex(workload, c)}'::bytea)`);
    const deleted = batch.filter((c) => c.kind === 'delete').map((c) => c.key);
    const [updated, inserted] = [rows('update'), rows('insert')];
    const statements = [
      ...(updated.length > 0
        ? [`update record r set value=v.value from (values ${updated}) v(key,value) where r.key=v.key`]
        : []),
      ...(inserted.length > 0 ? [`insert into record values ${inserted}`] : []),
      ...(deleted.length > 0 ? [`delete from record where key in (${deleted})`] : []),
    ];
    yield `begin\\;${statements.join('\\;')}\\;commit;\n`;
  }
};

const bytesBelow = (dir: string): number =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((n, entry) => n + statSync(join(entry.parentPath, entry.name)).size, 0);

export interface PostgresOptions {
  /** Empty or absent; removed at the end. */
  readonly dir: string;
  readonly records: number;
  readonly changes: number;
  readonly seed: number;
  readonly runs: number;
  /** How long each commit rate is measured. */
  readonly ms: number;
  readonly onStep?: (what: string) => void;
}

export const postgres = async (options: PostgresOptions): Promise<Peer> => {
  const { dir, runs, ms, onStep = () => undefined } = options;
  const bin = serverBin();
  if (!bin) return { name: NAME, absent: 'no server below /usr/lib/postgresql' };
  for (const program of ['psql', 'pgbackrest'])
    if (!onPath(program)) return { name: NAME, absent: `${program} is not installed` };
  const cluster = new Cluster(dir, bin);
  try {
    onStep('PostgreSQL: cluster and load');
    await cluster.create();
    const built = await build(cluster, options);
    const [version, backrest] = [
      await cluster.sql('show server_version'),
      await cluster.run('pgbackrest', ['version']),
    ];
    onStep('PostgreSQL: commits');
    await cluster.sql('create table commits (key bigint primary key, value bytea not null)');
    const upsert =
      "insert into commits values (:key, decode(repeat('5a', 200), 'hex')) on conflict (key) do update set value = excluded.value;";
    const script = `\\set key random(0, 999999)\n${upsert}\n`;
    const one = await cluster.commitsPerSecond(1, ms, script);
    const many = await cluster.commitsPerSecond(WRITERS, ms, script);
    onStep('PostgreSQL: restores');
    const repositoryMB = built.repositoryMB;
    await cluster.stop();
    const seconds: number[] = [];
    for (let run = 0; run < runs; run++) seconds.push(await restore(cluster, built.target));
    const records = await compare(cluster, options);
    return {
      name: NAME,
      version: `${version.split(' ')[0]}, ${backrest.replace('pgBackRest ', '')}`,
      how: 'defaults, archive_mode on, unix socket',
      commitsPerSecond: { 1: one, 64: many },
      batchChangesPerSecond: options.changes / built.changeSeconds,
      restore: {
        seconds: median(seconds),
        records,
        repositoryMB,
        loadSeconds: built.loadSeconds,
        changeSeconds: built.changeSeconds,
      },
    };
  } finally {
    await cluster.stop('immediate').catch(() => undefined);
    await rm(dir, { recursive: true, force: true });
  }
};

/** Load, full backup, changes; returns the instant in the middle, and waits until its log is archived. */
const build = async (cluster: Cluster, { records, changes, seed }: PostgresOptions) => {
  const workload = new Workload(records, seed);
  await cluster.sql('create table record (key bigint primary key, value bytea not null)');
  let started = performance.now();
  const copy = cluster.session('-c', 'copy record from stdin');
  const copied = feed(copy, loadLines(workload)).then(() => copy.stdin?.end());
  await Promise.all([copied, exited(copy)]);
  const loadSeconds = (performance.now() - started) / 1000;
  await cluster.backrest('backup', '--type=full');
  started = performance.now();
  const half = Math.floor(changes / 2);
  await change(cluster, workload, half);
  let changeSeconds = (performance.now() - started) / 1000;
  await sleep(20);
  const target = await cluster.sql('select clock_timestamp()');
  await sleep(20);
  started = performance.now();
  await change(cluster, workload, changes);
  changeSeconds += (performance.now() - started) / 1000;
  // the check waits until the log that it switches is in the repository
  await cluster.backrest('check');
  return { target, loadSeconds, changeSeconds, repositoryMB: bytesBelow(cluster.repository) / 1e6 };
};

const change = async (cluster: Cluster, workload: Workload, changes: number): Promise<void> => {
  const session = cluster.session();
  session.stdout?.resume();
  await Promise.all([
    feed(session, changeLines(workload, changes)).then(() => session.stdin?.end()),
    exited(session),
  ]);
};

const exited = async (child: ChildProcess): Promise<void> => {
  let stderr = '';
  child.stderr?.on('data', (text) => {
    stderr = (stderr + text).slice(-2000);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('exit', resolve);
  });
  if (code !== 0) throw new Error(`psql ended with ${code}: ${stderr.trim()}`);
};

/** Into an empty data directory. Seconds from the command to a server that is out of recovery. */
const restore = async (cluster: Cluster, target: string): Promise<number> => {
  await cluster.stop('immediate').catch(() => undefined);
  await rm(cluster.data, { recursive: true, force: true });
  const started = performance.now();
  // a restore to the same place on a server that must not push its log into the history that it came from
  await cluster.backrest(
    'restore',
    '--type=time',
    `--target=${target}`,
    '--target-action=promote',
    '--archive-mode=off',
  );
  await cluster.start();
  while ((await cluster.sql('select pg_is_in_recovery()').catch(() => 't')) !== 'f') {
    if (performance.now() - started > READY_MS_MAX) throw new Error('PostgreSQL stays in recovery');
    await sleep(20);
  }
  return (performance.now() - started) / 1000;
};

/** Every row of the restored table against the workload's truth. */
const compare = async (cluster: Cluster, { records, changes, seed }: PostgresOptions): Promise<number> => {
  const truth = new Workload(records, seed).skipTo(Math.floor(changes / 2), BATCH);
  const session = cluster.session('-c', 'copy record to stdout');
  session.stdin?.end();
  session.stdout?.setEncoding('latin1');
  let count = 0;
  let rest = '';
  for await (const text of session.stdout ?? []) {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const [key, value] = line.split('\t');
      if (truth.expected(Number(key))?.toString('hex') !== value.slice(3))
        throw new Error(`row ${key} of the restored table is not what the workload wrote`);
      count++;
    }
  }
  if (count !== truth.count) throw new Error(`${count} rows, the workload has ${truth.count}`);
  return count;
};

export const benchPostgres = async (args: string[]): Promise<void> => {
  const { values } = parseArgs({
    args,
    options: {
      records: { type: 'string', default: '1000000' },
      changes: { type: 'string', default: '1000000' },
      runs: { type: 'string', default: '3' },
      dir: { type: 'string' },
    },
  });
  const peer = await postgres({
    dir: join(benchDirectory(values.dir), 'postgres'),
    records: wholeNumber('--records', values.records),
    changes: wholeNumber('--changes', values.changes, 2),
    runs: wholeNumber('--runs', values.runs),
    seed: 1,
    ms: 3000,
    onStep: say,
  });
  process.stdout.write(`${JSON.stringify(peer)}\n`);
};
