/**
 * A cluster: copying it, polling it, how far the archive is behind its writers, restoring into it. Beside Aerospike's own tools.
 *
 *     npm run bench -- aerospike [--host h:p] [--namespace test] [--records 1000000] [--rate 5000] [--seconds 15] [--runs 3] [--dir DIR] [--json]
 *
 * Without `--host` the subject is the endpoint, in a process of its own; with it a server, whose namespace must be empty: what is written there is
 * truncated at the end. Everything shares the processors of this machine.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { JobContext } from '../cli/bench/child.ts';
import { isolated, jobOf, startJob } from '../cli/bench/isolate.ts';
import { type Machine, machineLines, machineOf } from '../cli/bench/machine.ts';
import { quantile } from '../cli/bench/measure.ts';
import { renderTable } from '../cli/render/table.ts';
import { formatCount } from '../cli/render/units.ts';
import { AerospikeClient } from '../engine/aerospike/client/client.ts';
import { AerospikeServer } from '../engine/aerospike/server/aerospike-server.ts';
import { PitrError } from '../engine/errors.ts';
import { Archive } from '../wal/archive.ts';
import { initCapture } from '../wal/capture/capture-dir.ts';
import { Engine } from '../wal/engine.ts';
import { Agent } from './agent.ts';
import { benchDirectory, say, wholeNumber } from './arguments.ts';
import {
  type CopyFigures,
  copyJob,
  loadJob,
  type PacedPuts,
  type Place,
  type PollFigures,
  pacedPutsJob,
  pollJob,
  type RestoreFigures,
  restoreJob,
} from './cluster-jobs.ts';
import { freePort } from './free-port.ts';
import { asbackup, asrestore, findTool } from './peers/aerospike-tools.ts';
import { cpuSecondsOf, listenerOf } from './source-process.ts';

/** Medians of the runs; MB = 10^6 bytes. `sourceCpuSeconds`: of the server's process, where it can be seen, else null. */
export interface SubjectFigures {
  readonly firstCopy: {
    readonly seconds: number;
    readonly restorableSeconds: number;
    /** The archive, with its catalog. */
    readonly MB: number;
    readonly cpuSeconds: number;
    readonly sourceCpuSeconds: number | null;
    readonly rssAnonMB: number;
  };
  readonly poll: PollFigures & { readonly sourceCpuSeconds: number | null };
  /** From the acknowledgement of a write to a catalog whose frontier covers it. */
  readonly lag: {
    readonly p50Ms: number;
    readonly p99Ms: number;
    readonly maxMs: number;
    readonly changesPerSecond: number;
    readonly agentCores: number;
    readonly sourceCores: number | null;
  };
  /** With read-back. */
  readonly restore: {
    readonly seconds: number;
    readonly cpuSeconds: number;
    readonly sourceCpuSeconds: number | null;
    readonly rssAnonMB: number;
  };
}

interface PeerFigures {
  readonly seconds: number;
  readonly MB: number;
  readonly sourceCpuSeconds: number | null;
}

export interface AerospikeFigures {
  readonly bench: 'aerospike';
  readonly machine: Machine;
  readonly options: Omit<AerospikeOptions, 'dir' | 'host'>;
  readonly server?: SubjectFigures & { readonly build: string };
  readonly endpoint?: SubjectFigures;
  /** Those that are on PATH. */
  readonly peers: {
    readonly asbackup?: PeerFigures;
    readonly asbackupZstd?: PeerFigures;
    readonly asrestore?: Omit<PeerFigures, 'MB'>;
  };
}

export interface AerospikeOptions {
  readonly dir: string;
  readonly host?: string;
  readonly namespace: string;
  readonly records: number;
  readonly rate: number;
  readonly seconds: number;
  readonly runs: number;
  readonly changed: number;
  readonly settleMs: number;
}

/** Serves a new engine until it is told to stop. */
export const serveJob = jobOf(import.meta.url, 'serve');
export const serve = async (
  { dir, port, namespace }: { readonly dir: string; readonly port: number; readonly namespace: string },
  context: JobContext,
): Promise<object> => {
  const engine = await Engine.open({ dir });
  const server = await AerospikeServer.listen({ engine, port, namespaces: [namespace] });
  context.ready();
  await context.stopped;
  await server.close();
  await engine.close();
  return {};
};

export const runAerospike = async (options: AerospikeOptions): Promise<AerospikeFigures> => {
  const { dir, host, ...conditions } = options;
  const place = host === undefined ? undefined : placeOf(host, options.namespace);
  const base = { bench: 'aerospike', machine: machineOf(dir), options: conditions } as const;
  if (place) {
    await assertEmpty(place);
    try {
      const { figures, peers, build } = await measure(place, options);
      return { ...base, server: { ...figures, build }, peers };
    } finally {
      await truncate(place);
    }
  }
  const port = await freePort();
  const server = startJob<object>(serveJob, { dir: join(dir, 'served'), port, namespace: options.namespace });
  await server.ready;
  try {
    const { figures, peers } = await measure(
      { host: '127.0.0.1', port, namespace: options.namespace },
      options,
    );
    return { ...base, endpoint: figures, peers };
  } finally {
    server.stop();
    await server.result;
  }
};

const placeOf = (text: string, namespace: string): Place => {
  const [, host = '', port = '3000'] = /^(.*?)(?::(\d+))?$/.exec(text) ?? [];
  return { host, port: Number(port), namespace };
};

const measure = async (
  place: Place,
  options: AerospikeOptions,
): Promise<{ figures: SubjectFigures; peers: AerospikeFigures['peers']; build: string }> => {
  const { dir, records, runs } = options;
  const meter = new SourceMeter(place.port);
  say(`${formatCount(records)} records into ${place.host}:${place.port}`);
  await isolated(loadJob, { place, records });
  const build = await buildOf(place);
  const peers = await backups(place, options, meter);
  say('first copies');
  const copies: (CopyFigures & { MB: number; rssAnonMB: number; sourceCpuSeconds: number | null })[] = [];
  const dirOf = (run: number): string => join(dir, `copy-${run}`);
  for (let run = 0; run < runs; run++) {
    const archive = join(dir, `archive-${run}`);
    await initCapture(
      dirOf(run),
      {
        kind: 'aerospike',
        url: `aerospike://${place.host}:${place.port}`,
        namespaces: [place.namespace],
        sets: null,
      },
      { archive: `file:${archive}` },
    );
    const { value, cost } = await meter.of(() => isolated<CopyFigures>(copyJob, { place, dir: dirOf(run) }));
    if (value.value.records !== records)
      throw new PitrError('internal', { what: `${value.value.records} of ${records} records were copied` });
    copies.push({
      ...value.value,
      MB: megabytes(archive),
      rssAnonMB: value.rssAnonMB,
      sourceCpuSeconds: cost,
    });
  }
  say('polls');
  const last = runs - 1;
  const polled = await meter.of(() =>
    isolated<PollFigures>(pollJob, {
      place,
      dir: dirOf(last),
      records,
      runs,
      changed: options.changed,
      settleMs: options.settleMs,
    }),
  );
  say('lag');
  const lag = await lagOf(place, dirOf(last), options, meter);
  const restored = await restores(place, options, meter, join(dir, `archive-${last}`));
  const copy = copies.toSorted((a, b) => a.seconds - b.seconds)[Math.floor((runs - 1) / 2)]!;
  return {
    build,
    peers: { ...peers, ...restored.peer },
    figures: {
      firstCopy: {
        seconds: copy.seconds,
        restorableSeconds: copy.restorableSeconds,
        MB: copy.MB,
        cpuSeconds: copy.cpuSeconds,
        sourceCpuSeconds: copy.sourceCpuSeconds,
        rssAnonMB: Math.max(...copies.map((c) => c.rssAnonMB)),
      },
      poll: { ...polled.value.value, sourceCpuSeconds: polled.cost },
      lag,
      restore: restored.figures,
    },
  };
};

/** Processor time of the server around something. */
class SourceMeter {
  readonly #pid: number | undefined;

  constructor(port: number) {
    this.#pid = listenerOf(port);
  }

  async of<T>(work: () => Promise<T>): Promise<{ value: T; cost: number | null }> {
    const before = cpuSecondsOf(this.#pid);
    const value = await work();
    const cost = cpuSecondsOf(this.#pid) - before;
    return { value, cost: Number.isNaN(cost) ? null : cost };
  }
}

const backups = async (
  place: Place,
  { dir }: AerospikeOptions,
  meter: SourceMeter,
): Promise<AerospikeFigures['peers']> => {
  const tool = findTool('asbackup');
  if (!tool) return {};
  const one = async (name: string, isCompressed: boolean): Promise<PeerFigures> => {
    say(name);
    const to = join(dir, name);
    const { value: seconds, cost } = await meter.of(() => asbackup(tool, place, to, isCompressed));
    return { seconds, MB: megabytes(to), sourceCpuSeconds: cost };
  };
  return { asbackup: await one('asb', false), asbackupZstd: await one('asb-zstd', true) };
};

const restores = async (
  place: Place,
  { dir, records, runs }: AerospikeOptions,
  meter: SourceMeter,
  archive: string,
): Promise<{ figures: SubjectFigures['restore']; peer: Pick<AerospikeFigures['peers'], 'asrestore'> }> => {
  const done: (RestoreFigures & { rssAnonMB: number; sourceCpuSeconds: number | null })[] = [];
  for (let run = 0; run < runs; run++) {
    say(`restore ${run + 1} of ${runs}`);
    await truncate(place);
    const args = { place, archive: `file:${archive}`, stateDir: join(dir, `state-${run}`) };
    const { value, cost } = await meter.of(() => isolated<RestoreFigures>(restoreJob, args));
    if (value.value.records !== records)
      throw new PitrError('internal', { what: `${value.value.records} of ${records} records were restored` });
    done.push({ ...value.value, rssAnonMB: value.rssAnonMB, sourceCpuSeconds: cost });
  }
  const tool = findTool('asrestore');
  let peer: Pick<AerospikeFigures['peers'], 'asrestore'> = {};
  if (tool) {
    say('asrestore');
    await truncate(place);
    const { value: seconds, cost } = await meter.of(() => asrestore(tool, place, join(dir, 'asb'), false));
    peer = { asrestore: { seconds, sourceCpuSeconds: cost } };
  }
  const middle = done.toSorted((a, b) => a.seconds - b.seconds)[Math.floor((runs - 1) / 2)]!;
  const { seconds, cpuSeconds, sourceCpuSeconds } = middle;
  const rssAnonMB = Math.max(...done.map((d) => d.rssAnonMB));
  return { figures: { seconds, cpuSeconds, sourceCpuSeconds, rssAnonMB }, peer };
};

const LOOK_MS = 20;
const CATCH_UP_MS_MAX = 60_000;

/** A writer at a fixed rate and `pitr agent`; the catalog is looked at all the time. */
const lagOf = async (
  place: Place,
  dir: string,
  options: AerospikeOptions,
  meter: SourceMeter,
): Promise<SubjectFigures['lag']> => {
  const { records, rate, seconds } = options;
  const agent = await Agent.start(dir);
  try {
    // its first polls compile
    await sleep(options.settleMs);
    const { archive, stream, timeline } = await headOf(dir);
    const seen: { atMs: number; frontierTs: number }[] = [];
    const isOver = new AbortController();
    const looking = (async () => {
      while (!isOver.signal.aborted) {
        const frontierTs = (await archive.head(timeline, stream))?.value.frontier.ts ?? 0;
        if (frontierTs > (seen.at(-1)?.frontierTs ?? 0)) seen.push({ atMs: Date.now(), frontierTs });
        await sleep(LOOK_MS);
      }
    })();
    const before = agent.cpuSeconds;
    const { value, cost } = await meter.of(() =>
      isolated<PacedPuts>(pacedPutsJob, { place, records, rate, seconds }),
    );
    const agentSeconds = agent.cpuSeconds - before;
    const { ackedMs, changesPerSecond } = value.value;
    const lastMs = Math.max(...ackedMs);
    for (const began = Date.now(); (seen.at(-1)?.frontierTs ?? 0) < lastMs; await sleep(LOOK_MS))
      if (Date.now() - began > CATCH_UP_MS_MAX)
        throw new PitrError('internal', { what: 'the agent did not archive what was written last' });
    isOver.abort();
    await looking;
    // the clock of all is the machine's; a write's time is not after its acknowledgement
    const lags = ackedMs.map((ms) => (seen.find((s) => s.frontierTs >= ms)?.atMs ?? Number.NaN) - ms);
    await agent.stop();
    return {
      p50Ms: quantile(lags, 0.5),
      p99Ms: quantile(lags, 0.99),
      maxMs: Math.max(...lags),
      changesPerSecond,
      agentCores: agentSeconds / seconds,
      sourceCores: cost === null ? null : cost / seconds,
    };
  } finally {
    agent.kill();
  }
};

const headOf = async (dir: string): Promise<{ archive: Archive; stream: string; timeline: string }> => {
  const { readIdentity } = await import('../engine/identity.ts');
  const { archive, stream, timeline } = await readIdentity(dir);
  if (!archive) throw new PitrError('internal', { what: `${dir} has no archive` });
  return { archive: await Archive.open(archive.url), stream, timeline };
};

const withClient = async <T>(
  { host, port }: Place,
  work: (client: AerospikeClient) => Promise<T>,
): Promise<T> => {
  const client = await AerospikeClient.connect({ hosts: [{ host, port }] });
  try {
    return await work(client);
  } finally {
    await client.close();
  }
};

const objectsIn = async (client: AerospikeClient, { namespace }: Place): Promise<number> => {
  const command = `namespace/${namespace}`;
  let objects = 0;
  for (const said of (await client.infoAll([command])).values())
    objects += Number(/(?:^|;)master_objects=(\d+)/.exec(said.get(command) ?? '')?.[1] ?? 0);
  return objects;
};

const assertEmpty = (place: Place): Promise<void> =>
  withClient(place, async (client) => {
    const objects = await objectsIn(client, place);
    if (objects > 0)
      throw new PitrError('usage', {
        what: `namespace ${place.namespace} of ${place.host}:${place.port} has ${objects} records`,
        hint: 'the benchmark truncates it: give it an empty one',
      });
  });

const truncate = (place: Place): Promise<void> =>
  withClient(place, async (client) => {
    await client.infoAll([`truncate-namespace:namespace=${place.namespace}`]);
    while ((await objectsIn(client, place)) > 0) await sleep(50);
  });

const buildOf = (place: Place): Promise<string> =>
  withClient(place, async (client) => (await client.info(client.nodes[0]!, ['build'])).get('build') ?? '');

const megabytes = (dir: string): number =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((e) => e.isFile())
    .reduce((n, e) => n + statSync(join(e.parentPath, e.name)).size, 0) / 1e6;

const render = (f: AerospikeFigures): string => {
  const subject = f.server ?? f.endpoint;
  if (!subject) return '';
  const s = (n: number | null): string => (n === null ? '-' : `${n.toFixed(2)} s`);
  const ms = (n: number): string => `${n.toFixed(0)} ms`;
  const { firstCopy, poll, lag, restore } = subject;
  const row = (what: string, time: string, size: string, ours: string, source: string): string[] => [
    what,
    time,
    size,
    ours,
    source,
  ];
  const { asbackup: plain, asbackupZstd: zstd, asrestore: back } = f.peers;
  const rows = [
    row(
      'first copy',
      s(firstCopy.seconds),
      `${firstCopy.MB.toFixed(0)} MB`,
      s(firstCopy.cpuSeconds),
      s(firstCopy.sourceCpuSeconds),
    ),
    ...(plain
      ? [row('asbackup -w 4', s(plain.seconds), `${plain.MB.toFixed(0)} MB`, '', s(plain.sourceCpuSeconds))]
      : []),
    ...(zstd
      ? [
          row(
            'asbackup -w 4 -z zstd',
            s(zstd.seconds),
            `${zstd.MB.toFixed(0)} MB`,
            '',
            s(zstd.sourceCpuSeconds),
          ),
        ]
      : []),
    row('poll, nothing changed', s(poll.seconds), '', s(poll.cpuSeconds), ''),
    row(`poll, ${formatCount(poll.changed)} changed`, s(poll.changedSeconds), '', '', ''),
    row('restore, read back', s(restore.seconds), '', s(restore.cpuSeconds), s(restore.sourceCpuSeconds)),
    ...(back ? [row('asrestore', s(back.seconds), '', '', s(back.sourceCpuSeconds))] : []),
  ];
  const right = (title: string) => ({ title, align: 'right' as const });
  return [
    ...machineLines(f.machine),
    `${formatCount(f.options.records)} records; ${f.server ? `server ${f.server.build}` : 'the endpoint'}`,
    `RssAnon: copy ${firstCopy.rssAnonMB.toFixed(0)} MB, restore ${restore.rssAnonMB.toFixed(0)} MB`,
    `lag at ${formatCount(lag.changesPerSecond)} changes/s: p50 ${ms(lag.p50Ms)}, p99 ${ms(lag.p99Ms)}, max ${ms(lag.maxMs)}; agent ${lag.agentCores.toFixed(2)} cores`,
    '',
    renderTable([{ title: '' }, right('TIME'), right('SIZE'), right('OUR CPU'), right("SERVER'S CPU")], rows),
  ].join('\n');
};

export const benchAerospike = async (args: string[]): Promise<void> => {
  const { values } = parseArgs({
    args,
    options: {
      host: { type: 'string' },
      namespace: { type: 'string', default: 'test' },
      records: { type: 'string', default: '1000000' },
      rate: { type: 'string', default: '5000' },
      seconds: { type: 'string', default: '15' },
      runs: { type: 'string', default: '3' },
      dir: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const figures = await runAerospike({
    dir: benchDirectory(values.dir),
    ...(values.host === undefined ? {} : { host: values.host }),
    namespace: values.namespace,
    records: wholeNumber('--records', values.records, 1000),
    rate: wholeNumber('--rate', values.rate),
    seconds: wholeNumber('--seconds', values.seconds),
    runs: wholeNumber('--runs', values.runs),
    changed: 5000,
    settleMs: 3500,
  });
  process.stdout.write(`${values.json ? JSON.stringify(figures) : render(figures)}\n`);
};
