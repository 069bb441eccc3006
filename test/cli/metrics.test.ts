/** Prometheus metrics: of a real agent that archives into a bucket, and of `status`; docs/metrics.md says what there is. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { METRIC_NAMES, METRICS, type MetricName, STATUS_METRICS } from '../../cli/metrics/metric-table.ts';
import { Metrics } from '../../cli/metrics/metrics.ts';
import { MetricsServer } from '../../cli/metrics/metrics-server.ts';
import { tellStatus } from '../../cli/metrics/status-metrics.ts';
import { PitrError } from '../../engine/errors.ts';
import { nodeFiles } from '../../engine/files.ts';
import { Archive } from '../../wal/archive.ts';
import { readDropped } from '../../wal/dropped.ts';
import { Engine, logDirOf } from '../../wal/engine.ts';
import { writeSpoolSettings } from '../../wal/spool-settings.ts';
import { CREDENTIALS, startProvider } from '../s3/provider.ts';
import { type Family, lint, parsePrometheus, seriesOf } from './prometheus-text.ts';
import { errorOf, jsonOf, type Outcome, outcomeOf, runPitr, startPitr } from './run-pitr.ts';

const PATIENCE_MS = 40_000;
const cwd = mkdtempSync(join(tmpdir(), 'pitr-metrics-'));
const run = { cwd, env: CREDENTIALS };

type Families = Map<string, Family>;

/** Of the one series of a metric whose labels have these values. */
const valueIn = (
  families: Families,
  name: string,
  labels: Record<string, string> = {},
): number | undefined => {
  const found = families
    .get(name)
    ?.samples.filter((s) => Object.entries(labels).every(([label, value]) => s.labels[label] === value));
  assert.ok((found?.length ?? 0) <= 1, `one ${name} ${JSON.stringify(labels)}`);
  return found?.[0]?.value;
};

/** Each series of a counter, and each bucket, never falls. */
const assertRisen = (before: Families, now: Families): void => {
  for (const { name, type, samples } of before.values()) {
    if (type === 'gauge') continue;
    const values = new Map(now.get(name)?.samples.map((s) => [seriesOf(s), s.value]));
    for (const s of samples) {
      const value = values.get(seriesOf(s));
      assert.ok(value !== undefined && value >= s.value, `${seriesOf(s)} was ${s.value}, is ${value}`);
    }
  }
};

describe('an agent that archives into a bucket', () => {
  let provider: Awaited<ReturnType<typeof startProvider>>;
  let engine: Engine;
  let agent: ChildProcess;
  let outcome: Promise<Outcome>;
  let log = '';
  let url = '';
  let last: Families | undefined;
  let dropped = 0;

  const put = async (i: number): Promise<void> => {
    await engine.put({ namespace: 'test', set: 's', key: i }, { value: 'x'.repeat(4000) });
    await engine.seal();
  };
  const scrape = async (): Promise<Families> => {
    const answer = await fetch(url);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
    const families = parsePrometheus(await answer.text());
    if (last) assertRisen(last, families);
    last = families;
    return families;
  };
  /** The first scrape that `wanted` accepts. */
  const until = async (what: string, wanted: (families: Families) => boolean): Promise<Families> => {
    for (const end = Date.now() + PATIENCE_MS; ; await sleep(100)) {
      const families = await scrape();
      if (wanted(families)) return families;
      assert.ok(Date.now() < end, `${what}: ${log}`);
    }
  };
  const archived = (f: Families): boolean => valueIn(f, 'pitr_archived_lsn') === engine.lastLsn;

  before(async () => {
    provider = await startProvider();
    const spool = ['--log-policy', 'drop-with-gap', '--log-quota', '32KiB'];
    await jsonOf(['init', 'data', '--archive', provider.url(), ...spool], run);
    const dir = join(cwd, 'data');
    engine = await Engine.open({ dir, sealMs: 50 });
    // no agent, and more than the quota: a part is given up
    for (let i = 0; i < 20; i++) await put(i);
    for (const end = Date.now() + PATIENCE_MS; engine.spool!.waitingBytes > 32 * 1024; await sleep(20))
      assert.ok(Date.now() < end, 'log over the quota is dropped');
    await engine.close();
    const ranges = await readDropped(logDirOf(dir), nodeFiles);
    dropped = ranges.reduce((n, r) => n + r.lsnEnd - r.lsnStart, 0);
    await writeSpoolSettings(dir, { policy: 'spill', quotaBytes: 2 ** 30 });
    engine = await Engine.open({ dir, sealMs: 0 });
  });
  after(async () => {
    agent?.kill('SIGKILL');
    await engine?.close();
    await provider?.close();
    rmSync(cwd, { recursive: true, force: true });
  });

  test('numbers are what happened, in text that Prometheus takes', async () => {
    provider.gate.messages.length = 0;
    const startedS = Date.now() / 1000;
    const settings = [
      '--log-policy',
      'spill',
      '--log-quota',
      '1GiB',
      '--compact-fanout',
      '64',
      '--s3-tries',
      '2',
      '--metrics-max-lag',
      '1m',
    ];
    agent = startPitr(['agent', 'data', '--metrics-port', '0', ...settings], run);
    outcome = outcomeOf(agent);
    agent.stderr?.on('data', (text) => {
      log += text;
    });
    for (const end = Date.now() + PATIENCE_MS; url === ''; await sleep(20)) {
      url = /http:\S+/.exec(log)?.[0] ?? '';
      assert.ok(Date.now() < end, log);
    }
    const job = (f: Families, kind: string) =>
      valueIn(f, 'pitr_job_last_success_timestamp_seconds', { kind });
    await until('a base copy after the gap', (f) => job(f, 'base_copy') !== undefined);
    await until('a look at it', (f) => valueIn(f, 'pitr_restorable_ranges') === 1);
    await put(100);
    const asked = provider.gate.messages.length;
    const f = await until('archived', archived);
    const nowS = Date.now() / 1000;
    const value = (name: string, labels?: Record<string, string>) => valueIn(f, name, labels);
    assert.deepEqual([...f.keys()], METRIC_NAMES);
    assert.deepEqual([...f.values()].flatMap(lint), []);

    assert.equal(value('pitr_archived_changes_total', { kind: 'seal' }), 21 - dropped);
    assert.equal(value('pitr_archived_changes_total', { kind: 'merge' }), 0);
    assert.ok(value('pitr_archived_bytes_total', { kind: 'seal' })! >= value('pitr_archive_bytes')!);
    assert.equal(value('pitr_archive_segments'), value('pitr_runs'));
    assert.equal(value('pitr_gaps', { kind: 'unacknowledged' }), 1);
    assert.deepEqual(
      [value('pitr_up'), value('pitr_green'), value('pitr_problems', { kind: 'gap' })],
      [1, 0, 1],
    );
    assert.deepEqual([value('pitr_generation'), value('pitr_fenced'), value('pitr_outage')], [1, 0, 0]);
    assert.deepEqual([value('pitr_writer_up'), value('pitr_agent_up')], [1, 1]);
    assert.equal(value('pitr_spool_quota_bytes'), 2 ** 30);
    assert.deepEqual(
      ['spill', 'block', 'drop-with-gap'].map((kind) => value('pitr_spool_policy', { kind })),
      [1, 0, 0],
    );
    const instants = ['pitr_frontier_timestamp_seconds', 'pitr_restorable_end_timestamp_seconds'].map((n) =>
      value(n),
    );
    for (const instant of [...instants, job(f, 'ship'), job(f, 'compaction'), job(f, 'base_copy')])
      assert.ok(instant! >= startedS && instant! <= nowS, `${startedS} <= ${instant} <= ${nowS}`);
    assert.equal(value('pitr_frontier_age_seconds')! >= 0, true);
    assert.ok(value('pitr_process_memory_bytes')! > 2 ** 24);
    assert.ok(value('pitr_process_start_timestamp_seconds')! <= nowS);

    // the server counts as well
    const tries = f.get('pitr_archive_tries_total')!.samples.reduce((n, sample) => n + sample.value, 0);
    const inFlight = value('pitr_archive_tries_in_flight')!;
    const arrived = provider.gate.messages.length;
    assert.ok(
      tries + inFlight >= asked - 4 && tries <= arrived,
      `${asked} <= ${tries} <= ${arrived}, ${inFlight} in flight`,
    );
    const created = f
      .get('pitr_archive_request_duration_seconds')!
      .samples.find((sample) => sample.name.endsWith('_count') && sample.labels.kind === 'create');
    const puts = provider.gate.messages.filter(
      (m) => m.method === 'PUT' && /\/(segments|manifests)\//.test(m.url),
    );
    assert.equal(created!.value, new Set(puts.map((m) => m.url)).size);

    const health = await fetch(url.replace('metrics', 'healthz'));
    assert.equal(health.status, 503);
    assert.match(await health.text(), /^not green\n(.*\n)*stream main lacks LSN 1 to /);
  });

  test('a burst of errors is counted by kind, and so are retries; nothing is lost', async () => {
    const { faults } = provider;
    faults.meant = ({ method, url: path }) => method === 'PUT' && path.includes('.seg');
    faults.planned = ['slowDown', 'slowDown', 'slowDown', 'slowDown'];
    await put(101);
    const during = await until('an outage', (f) => valueIn(f, 'pitr_outage') === 1);
    assert.ok(valueIn(during, 'pitr_outage_tries')! >= 1);
    assert.ok(valueIn(during, 'pitr_outage_since_timestamp_seconds')! <= Date.now() / 1000);
    assert.equal(valueIn(during, 'pitr_problems', { kind: 'outage' }), 1);
    assert.ok(valueIn(during, 'pitr_spool_bytes')! > 4000);
    const f = await until('archived', archived);
    assert.equal(valueIn(f, 'pitr_errors_total', { kind: 'archive-throttled' }), 2);
    assert.equal(valueIn(f, 'pitr_archive_request_errors_total', { kind: 'create' }), 2);
    assert.equal(valueIn(f, 'pitr_archive_tries_total', { kind: 'throttled' }), 4);
    assert.equal(valueIn(f, 'pitr_archive_retries_total', { kind: 'throttled' }), 2);
    assert.ok(valueIn(f, 'pitr_archive_wait_seconds_total', { kind: 'retry' })! >= 0.5);
    const calm = await until('no outage', (now) => valueIn(now, 'pitr_outage') === 0);
    assert.equal(valueIn(calm, 'pitr_outage_since_timestamp_seconds'), undefined);
    assert.equal(valueIn(calm, 'pitr_archived_changes_total', { kind: 'seal' }), 22 - dropped);
  });

  test('status --metrics says the same, and what the directory knows when the archive is away', async () => {
    await engine.close();
    const live = await until('archived', archived);
    const { code, stdout } = await runPitr(['status', 'data', '--metrics', '--max-lag', '1m'], run);
    assert.equal(code, 7, 'a gap');
    const f = parsePrometheus(stdout);
    assert.deepEqual([...f.keys()], STATUS_METRICS);
    for (const name of [
      'pitr_archived_changes_total',
      'pitr_archived_lsn',
      'pitr_gaps',
      'pitr_runs',
      'pitr_archive_bytes',
    ])
      assert.deepEqual(f.get(name), live.get(name));
    agent.kill('SIGTERM');
    const ended = await outcome;
    assert.equal(ended.code, 0, ended.stderr);
    const away = await runPitr(
      ['status', 'data', '--metrics', '--s3-endpoint', 'http://127.0.0.1:9', '--s3-tries', '1'],
      run,
    );
    assert.equal(away.code, 7);
    const known = parsePrometheus(away.stdout);
    assert.deepEqual([valueIn(known, 'pitr_up'), valueIn(known, 'pitr_agent_up')], [0, 0]);
    assert.equal(valueIn(known, 'pitr_archived_lsn'), engine.lastLsn);
    assert.equal(valueIn(known, 'pitr_gaps'), undefined, 'what is not known is not said');
    const nowhere = await runPitr(['status', '--archive', 'file:nowhere', '--metrics'], run);
    assert.deepEqual([nowhere.code, valueIn(parsePrometheus(nowhere.stdout), 'pitr_up')], [20, 0]);
    await errorOf(['status', 'data', '--metrics'], run, 'usage', 2);
  });
});

describe('the two pages', () => {
  let answer = async (): Promise<string> => 'pitr_up 1\n';
  const errors: unknown[] = [];
  const told = {
    contentType: 'text/plain; version=0.0.4; charset=utf-8',
    text: () => answer(),
    health: async () => ({ isGreen: true, reasons: [] }),
  };
  const options = {
    host: '127.0.0.1',
    port: 0,
    answerMs: 100,
    onError: (e: unknown) => errors.push(e),
  };
  let server: MetricsServer;
  before(async () => {
    server = await MetricsServer.listen(told, options);
  });
  after(() => server.close());

  const ask = (method: string, path: string, body?: string) =>
    new Promise<{ status: number | undefined; headers: NodeJS.Dict<string | string[]>; text: string }>(
      (resolve, reject) => {
        const { host, port } = server;
        const asked = request({ host, port, method, path, agent: false }, (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (more) => {
            text += more;
          });
          response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, text }));
        });
        asked.on('error', reject).end(body);
      },
    );

  test('GET and HEAD are answered, everything else is refused', async () => {
    const got = await ask('GET', '/metrics?debug=1');
    assert.deepEqual([got.status, got.text], [200, 'pitr_up 1\n']);
    const head = await ask('HEAD', '/metrics');
    assert.deepEqual([head.status, head.text, head.headers['content-length']], [200, '', '10']);
    assert.equal(head.headers['content-type'], told.contentType);
    assert.deepEqual(
      [(await ask('GET', '/healthz')).status, (await ask('GET', '/healthz')).text],
      [200, 'green\n'],
    );
    for (const path of ['/', '/metrics/', '/metricsx', '/..%2fmetrics', '//metrics'])
      assert.equal((await ask('GET', path)).status, 404, path);
    const post = await ask('POST', '/metrics', 'x'.repeat(100_000)).catch((error) => error);
    // it may be cut off while it still sends
    assert.ok(post instanceof Error || (post.status === 405 && post.headers.allow === 'GET, HEAD'));
  });

  test('an answer that fails or hangs is the monitor’s problem only', async () => {
    answer = async () => Promise.reject(new Error('broken'));
    assert.equal((await ask('GET', '/metrics')).status, 500);
    assert.match(`${errors.pop()}`, /broken/);
    answer = () => new Promise(() => undefined);
    assert.equal((await ask('GET', '/metrics')).status, 503);
    answer = async () => 'pitr_up 1\n';
    assert.equal((await ask('GET', '/metrics')).status, 200);
  });

  test('a client that does not go on is let go of', async () => {
    const ended = (to: MetricsServer, text: string) =>
      new Promise<string>((resolve, reject) => {
        let got = '';
        const socket = connect(to.port, to.host, () => socket.write(text));
        socket.on('data', (more) => {
          got += more;
        });
        socket.on('error', reject).on('close', () => resolve(got));
      });
    const hasty = await MetricsServer.listen(told, { ...options, clientMs: 200 });
    const begun = ['', 'GET /metrics HTTP/1.1\r\nhost: x\r\n'].map((text) => ended(hasty, text));
    for (const got of await Promise.all(begun)) assert.match(got, /^HTTP\/1.1 408|^$/);
    await hasty.close();
    const long = `GET /metrics HTTP/1.1\r\nx: ${'y'.repeat(9000)}\r\n\r\n`;
    assert.match(await ended(server, long), /^HTTP\/1.1 431/);
    assert.match(await ended(server, 'nonsense\r\n\r\n'), /^HTTP\/1.1 400/);
  });

  test('a port that is taken is refused before the agent takes a stream', async () => {
    await assert.rejects(MetricsServer.listen(told, { ...options, port: server.port }), (error) => {
      assert.ok(error instanceof PitrError && error.id === 'port-unusable');
      return true;
    });
    const home = mkdtempSync(join(tmpdir(), 'pitr-metrics-port-'));
    try {
      const { timeline } = await jsonOf(['init', 'data', '--archive', 'file:archive'], { cwd: home });
      const port = ['--metrics-port', `${server.port}`];
      const { hint } = await errorOf(['agent', 'data', ...port], { cwd: home }, 'port-unusable', 68);
      assert.match(hint, /--metrics-port/);
      const archive = await Archive.open(`file:${join(home, 'archive')}`);
      assert.equal(await archive.head(timeline, 'main'), undefined);
      const serve = [
        'serve',
        'data',
        '--archive',
        `file:${join(home, 'archive')}`,
        '--listen',
        '127.0.0.1:0',
      ];
      await errorOf([...serve, ...port], { cwd: home }, 'port-unusable', 68);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });
});

test('whatever a stream is called, the text can be read and has that name', async () => {
  const stream = 'a"b\\c\nd}{,=e\u2028é';
  const metrics = await Metrics.create();
  tellStatus(metrics, {
    archive: { url: '', id: '', isReachable: true },
    nowMs: 5000,
    green: true,
    problems: [],
    timeline: stream,
    ranges: [],
    contiguousEnd: null,
    maxEnd: null,
    limitedBy: null,
    lagMs: null,
    window: null,
    holes: [],
    streams: [
      {
        stream,
        partitions: 'none',
        frontierTs: 2000,
        lagMs: null,
        lsn: 7,
        runs: 0,
        segments: 0,
        bytes: 0,
        written: { seals: { bytes: 1, versions: 2 }, merges: { bytes: 3, versions: 4 } },
        writeAmplification: 4,
        gaps: [],
      },
    ],
    snapshots: 0,
    lastSnapshot: null,
    lastVerify: null,
    lastGoodVerify: null,
    leases: [],
    timelines: [],
  });
  const f = parsePrometheus(await metrics.text());
  assert.equal(valueIn(f, 'pitr_archived_lsn', { stream, timeline: stream }), 7);
  assert.equal(valueIn(f, 'pitr_frontier_age_seconds', { stream }), 3);
  assert.equal(valueIn(f, 'pitr_archived_bytes_total', { kind: 'merge', stream }), 3);
});

test('the reader of this test refuses what Prometheus refuses', () => {
  const head = '# HELP a_total b\n# TYPE a_total counter\n';
  const read = parsePrometheus(`${head}a_total{x="1\\"",y="\\\\\\n"} 1e3\na_total 2\n`);
  assert.deepEqual(read.get('a_total')!.samples[0], {
    name: 'a_total',
    labels: { x: '1"', y: '\\\n' },
    value: 1000,
  });
  for (const bad of [
    'a_total 1',
    'a_total 1\na_total 1\n',
    'a_total{x="1"} 1\na_total{x="1"} 1\n',
    'a_total{x="1",x="2"} 1\n',
    'a_total{x="""} 1\n',
    'a_total{x="\\d"} 1\n',
    'a_total{x="1" 1\n',
    'a_total -1\n',
    'a_total one\n',
    'a_total  1\n',
    'b_total 1\n',
    head,
  ])
    assert.throws(() => parsePrometheus(head + bad), assert.AssertionError, bad);
  const histogram = '# HELP h b\n# TYPE h histogram\n';
  const buckets = (...counts: number[]) =>
    ['1', '2', '+Inf'].map((le, i) => `h_bucket{le="${le}"} ${counts[i]}\n`).join('');
  parsePrometheus(`${histogram}${buckets(1, 1, 2)}h_sum 3\nh_count 2\n`);
  for (const bad of [
    `${buckets(2, 1, 2)}h_sum 3\nh_count 2\n`,
    `${buckets(1, 1, 2)}h_sum 3\nh_count 3\n`,
    `${buckets(1, 1, 2)}h_count 2\n`,
    'h_bucket{le="1"} 1\nh_sum 1\nh_count 1\n',
  ])
    assert.throws(() => parsePrometheus(histogram + bad), assert.AssertionError, bad);
});

test('docs/metrics.md has every metric with its type and its labels', async () => {
  const text = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
  const documented = [...text.matchAll(/^\| `(pitr_\w+)` +\| (\w+) +\| ([^|]*?) +\|/gm)].map(
    ([, name, type, labels]) => ({
      name: name!,
      type: type!,
      labels: [...labels!.matchAll(/`(\w+)`/g)].map(([, label]) => label!),
    }),
  );
  const metrics = parsePrometheus(await (await Metrics.create()).text());
  assert.deepEqual(documented.map((m) => m.name).sort(), [...metrics.keys()].sort());
  for (const { name, type, labels } of documented) {
    assert.equal(type, metrics.get(name)!.type, name);
    assert.deepEqual(labels, METRICS[name as MetricName].labels, name);
  }
});
