/**
 * The endpoint: how many records a second go through Aerospike's protocol, durably, into an engine on a real directory.
 *
 *     npm run bench -- endpoint [--records 200000] [--ms 1000] [--runs 3] [--window 1024] [--dir DIR] [--json]
 *
 * Server and client are processes of their own on this machine, and share its processors. Values are those of `core`, 200 bytes.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { JobContext } from '../cli/bench/child.ts';
import { type Isolated, isolated, jobOf, startJob } from '../cli/bench/isolate.ts';
import { type Machine, machineLines, machineOf } from '../cli/bench/machine.ts';
import { median } from '../cli/bench/measure.ts';
import { renderTable } from '../cli/render/table.ts';
import { formatCount } from '../cli/render/units.ts';
import { AerospikeServer } from '../engine/aerospike/server/aerospike-server.ts';
import { Engine } from '../wal/engine.ts';
import { benchDirectory, say, wholeNumber } from './arguments.ts';
import {
  type ClientFigures,
  type LoadFigures,
  NAMESPACE,
  type OfficialFigures,
  officialJob,
  pipelinedJob,
  scanJob,
} from './endpoint-client.ts';
import { freePort } from './free-port.ts';

/** What `--json` prints; medians of the runs, rates per second, MB = 10^6 bytes. */
export interface EndpointFigures {
  readonly bench: 'endpoint';
  readonly machine: Machine;
  readonly options: Omit<EndpointOptions, 'dir'>;
  /** One socket, `window` requests ahead of the answers; each put is durable when it is answered. */
  readonly pipelined: {
    readonly putsPerSecond: number;
    readonly getsPerSecond: number;
    readonly puts: LoadFigures;
    readonly gets: LoadFigures;
  };
  readonly scan: { readonly recordsPerSecond: number };
  /** By requests in flight; null without the package. */
  readonly official: OfficialFigures | null;
  /** Of the server, over everything. */
  readonly server: { readonly rssAnonMB: number; readonly rssFileMB: number; readonly cpuSeconds: number };
}

export interface EndpointOptions {
  readonly dir: string;
  readonly records: number;
  readonly ms: number;
  readonly runs: number;
  readonly window: number;
}

const IN_FLIGHT = [1, 8, 64] as const;

/** Serves a new engine until it is told to stop. */
export const serveJob = jobOf(import.meta.url, 'serve');
export const serve = async (
  { dir, port }: { readonly dir: string; readonly port: number },
  context: JobContext,
): Promise<{ cpuSeconds: number }> => {
  const engine = await Engine.open({ dir });
  const server = await AerospikeServer.listen({ engine, port, namespaces: [NAMESPACE] });
  context.ready();
  await context.stopped;
  await server.close();
  await engine.close();
  const { user, system } = process.cpuUsage();
  return { cpuSeconds: (user + system) / 1e6 };
};

export const runEndpoint = async (options: EndpointOptions): Promise<EndpointFigures> => {
  const { dir, records, ms, runs, window } = options;
  const port = await freePort();
  const server = startJob<{ cpuSeconds: number }>(serveJob, { dir: join(dir, 'engine'), port });
  await server.ready;
  say('one pipelined socket');
  const pipelined: ClientFigures[] = [];
  for (let run = 0; run < runs; run++)
    pipelined.push(
      (await isolated<ClientFigures>(pipelinedJob, { port, records, ms, inFlight: window })).value,
    );
  say('scans');
  const scan = (await isolated<{ recordsPerSecond: number }>(scanJob, { port, records, runs: runs + 1 }))
    .value;
  say("Aerospike's client");
  const official = await isolated<OfficialFigures | null>(officialJob, {
    port,
    records,
    ms,
    inFlight: IN_FLIGHT,
  });
  server.stop();
  const ended: Isolated<{ cpuSeconds: number }> = await server.result;
  const puts = medianOf(pipelined.map((p) => p.puts));
  const gets = medianOf(pipelined.map((p) => p.gets));
  const { dir: _, ...conditions } = options;
  return {
    bench: 'endpoint',
    machine: machineOf(dir),
    options: conditions,
    pipelined: { putsPerSecond: puts.perSecond, getsPerSecond: gets.perSecond, puts, gets },
    scan,
    official: official.value,
    server: { rssAnonMB: ended.rssAnonMB, rssFileMB: ended.rssFileMB, cpuSeconds: ended.value.cpuSeconds },
  };
};

/** The run whose rate is the middle one. */
const medianOf = (figures: readonly LoadFigures[]): LoadFigures => {
  const rate = median(figures.map((f) => f.perSecond));
  return figures.find((f) => f.perSecond === rate) ?? figures[0];
};

const render = (f: EndpointFigures): string => {
  const row = (what: string, { perSecond, p50Ms, p99Ms }: LoadFigures): string[] => [
    what,
    formatCount(perSecond),
    `${p50Ms.toFixed(2)} ms`,
    `${p99Ms.toFixed(2)} ms`,
  ];
  const rows = [
    row(`puts, one socket, ${f.options.window} ahead`, f.pipelined.puts),
    row(`gets, one socket, ${f.options.window} ahead`, f.pipelined.gets),
    ['scan, one socket', formatCount(f.scan.recordsPerSecond), '', ''],
  ];
  for (const [inFlight, { puts, gets }] of Object.entries(f.official?.byInFlight ?? {}))
    rows.push(
      row(`puts, Aerospike's client, ${inFlight} in flight`, puts),
      row(`gets, Aerospike's client, ${inFlight} in flight`, gets),
    );
  if (f.official) rows.push(row("batch reads of 100, Aerospike's client", f.official.batch));
  const title = { title: 'records a second' };
  const right = (text: string) => ({ title: text, align: 'right' as const });
  return [
    ...machineLines(f.machine),
    `${formatCount(f.options.records)} records of 200 bytes; server RssAnon ${f.server.rssAnonMB.toFixed(0)} MB`,
    ...(f.official ? [] : ["Aerospike's client is not installed: npm ci without --omit=optional"]),
    '',
    renderTable([title, right('/s'), right('p50'), right('p99')], rows),
  ].join('\n');
};

export const benchEndpoint = async (args: string[]): Promise<void> => {
  const { values } = parseArgs({
    args,
    options: {
      records: { type: 'string', default: '200000' },
      ms: { type: 'string', default: '1000' },
      runs: { type: 'string', default: '3' },
      window: { type: 'string', default: '1024' },
      dir: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const figures = await runEndpoint({
    dir: benchDirectory(values.dir),
    records: wholeNumber('--records', values.records, 1000),
    ms: wholeNumber('--ms', values.ms),
    runs: wholeNumber('--runs', values.runs),
    window: wholeNumber('--window', values.window, 64),
  });
  process.stdout.write(`${values.json ? JSON.stringify(figures) : render(figures)}\n`);
};
