import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { ManualClock } from '../../engine/clock.ts';
import { isPitrError } from '../../engine/errors.ts';
import { Journal } from '../../wal/capture/journal.ts';
import { XdrCapture } from '../../wal/capture/xdr/xdr-capture.ts';
import type { XdrReport } from '../../wal/capture/xdr/xdr-report.ts';
import { field, message, nil, utf8 } from '../aerospike/wire-bytes.ts';
import { SourceNode } from './xdr-source.ts';
import {
  digestOf,
  lutField,
  newCaptureDir,
  readLog,
  readVersions,
  remove,
  Shipper,
  T0,
  textOf,
  until,
  write,
} from './xdr-support.ts';

interface World {
  readonly dir: string;
  readonly journal: Journal;
  readonly capture: XdrCapture;
  readonly clock: ManualClock;
  readonly reports: XdrReport[];
  readonly peer: () => Promise<Shipper>;
  readonly close: () => Promise<void>;
}

const start = async (t: TestContext, node: SourceNode | undefined, dir?: string): Promise<World> => {
  const here = dir ?? (await newCaptureDir(t));
  const journal = await Journal.open(here);
  const clock = new ManualClock(node?.state.nowMs ?? T0 + 100_000);
  const reports: XdrReport[] = [];
  const capture = await XdrCapture.start({
    journal,
    port: 0,
    clock,
    proofMs: 5,
    configMs: 5,
    onReport: (report) => reports.push(report),
    ...(node
      ? { source: { client: { hosts: [{ host: '127.0.0.1', port: node.peer.port }] }, dc: 'pitr' } }
      : {}),
  }).catch(async (error) => {
    await journal.close();
    throw error;
  });
  const peers: Shipper[] = [];
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= (async () => {
      for (const shipper of peers) shipper.close();
      await capture.close();
      await journal.close();
    })();
    return closed;
  };
  t.after(close);
  const peer = async (): Promise<Shipper> => {
    const shipper = await Shipper.open(capture.listener.address.port);
    peers.push(shipper);
    return shipper;
  };
  return { dir: here, journal, capture, clock, reports, peer, close };
};

/** The source's clock goes on, ours with it. */
const pass = (world: World, node: SourceNode, ms: number): void => {
  node.state.nowMs += ms;
  world.clock.step(ms);
};

const isProven = (world: World, ts: number) => (): boolean => {
  const { frontierTs, proof } = world.capture.report();
  return frontierTs === ts && proof.kind === 'proven';
};

const C0 = T0 + 100_000;

/** Rounds of reading: what was changed before has been seen after two of them. */
const rounds = async (node: SourceNode, count: number): Promise<void> => {
  const asked = (): number => node.peer.asked.filter((c) => c.startsWith('get-stats')).length;
  const before = asked();
  await until(() => asked() >= before + count, 'readings');
};

test('X5: the frontier is the clock before a quiet reading, less the margin, and what was shipped by then is in the log', async (t) => {
  const node = await SourceNode.open(t, 'A1');
  node.state.stats.recoveries_pending = 4096;
  node.state.objects = 2;
  const world = await start(t, node);
  assert.deepEqual(world.capture.report().history, { c0Ts: C0, startMs: undefined });
  const shipper = await world.peer();
  // a rewind ships what was there before
  assert.deepEqual(
    await shipper.ship(
      write({ record: 1, lutMs: T0 + 5, generation: 3 }),
      write({ record: 2, lutMs: T0 + 7 }),
    ),
    [0, 0],
  );
  pass(world, node, 5400);
  await rounds(node, 3);
  assert.equal(world.journal.frontierTs, C0);
  assert.match(JSON.stringify(world.capture.report().proof), /recoveries_pending of test is 4096 on A1/);
  node.state.stats.recoveries_pending = 0;
  // 5,400 ms: the start of that second, less one
  await until(isProven(world, C0 + 4000), 'proven');
  const { history, inexact, gaps } = world.capture.report();
  assert.equal(history.startMs, C0 + 4000);
  assert.deepEqual(inexact, []);
  assert.deepEqual(gaps, []);
  assert.deepEqual((await readVersions(world.dir)).map(textOf), [
    `1@100001 g3 0 lut 5 (5,100001] missed 2 late`,
    `2@100001 g1 0 lut 7 (7,100001] missed 0 late`,
  ]);
  const clocks = (await readLog(world.dir)).flatMap((e) => (e.kind === 'clock' ? [e.clock] : []));
  assert.equal(clocks.at(-1)?.ts, C0 + 4000);
  assert.equal(
    clocks.at(-1)?.digests.reduce((n, d) => n + d.records, 0),
    2,
  );
  // F1: what comes later with an older LUT is above what was stated
  await shipper.ship(write({ record: 3, lutMs: C0 + 3000 }));
  assert.equal((await readVersions(world.dir)).at(-1)?.ts, C0 + 4001);
});

for (const [what, change] of [
  ['lag', (n: SourceNode) => Object.assign(n.state.stats, { lag: 1 })],
  ['in_queue', (n: SourceNode) => Object.assign(n.state.stats, { in_queue: 3 })],
  ['in_progress', (n: SourceNode) => Object.assign(n.state.stats, { in_progress: 1 })],
  ['nodes answer', (n: SourceNode) => Object.assign(n.state, { clusterSize: 2 })],
  ['not stable', (n: SourceNode) => Object.assign(n.state, { clusterKey: 'ERROR:4:unstable-cluster' })],
] as const)
  test(`X5: nothing is stated while ${what} speaks against it`, async (t) => {
    const node = await SourceNode.open(t, 'A1');
    const world = await start(t, node);
    pass(world, node, 5000);
    await until(isProven(world, C0 + 4000), 'proven');
    change(node);
    await rounds(node, 2);
    pass(world, node, 5000);
    await rounds(node, 3);
    const { proof, frontierTs } = world.capture.report();
    assert.equal(frontierTs, C0 + 4000);
    assert.equal(proof.kind, 'held');
    assert.match((proof as { why: string }).why, new RegExp(what));
  });

test('X5: what is being sent again holds the frontier for 2 s', async (t) => {
  const node = await SourceNode.open(t, 'A1');
  const world = await start(t, node);
  pass(world, node, 5000);
  await until(isProven(world, C0 + 4000), 'proven');
  node.state.stats.retry_conn_reset = 1;
  await rounds(node, 2);
  pass(world, node, 1000);
  await rounds(node, 3);
  assert.match(JSON.stringify(world.capture.report().proof), /sent again/);
  assert.equal(world.journal.frontierTs, C0 + 4000);
  pass(world, node, 1500);
  await until(isProven(world, C0 + 6000), 'proven again');
});

test('X5: without access to info nothing beyond the empty base is stated', async (t) => {
  const world = await start(t, undefined);
  await (await world.peer()).ship(write({ record: 1, lutMs: C0 + 10 }));
  world.clock.step(60_000);
  await until(() => world.journal.isSealed, 'sealed');
  const { proof, frontierTs, inexact } = world.capture.report();
  assert.equal(frontierTs, C0);
  assert.deepEqual(proof, { kind: 'unknown', why: 'no access to the info of the source' });
  assert.equal(inexact.length, 1);
});

test('X8: what is owed holds the frontier until it came', async (t) => {
  const node = await SourceNode.open(t, 'A1');
  const world = await start(t, node);
  const shipper = await world.peer();
  const fields = [field(0, utf8('test')), field(1, utf8('s')), field(4, digestOf(1)), lutField(C0 + 100)];
  const ops = [nil('v')];
  assert.deepEqual(
    await shipper.ship(message({ info1: 0x10, info2: 1, generation: 2, ttl: -1, fields, ops })),
    [16],
  );
  pass(world, node, 5000);
  await rounds(node, 3);
  assert.equal(world.journal.frontierTs, C0);
  assert.match(JSON.stringify(world.capture.report().proof), /refused/);
  await shipper.ship(write({ record: 1, lutMs: C0 + 100, generation: 2 }));
  await until(isProven(world, C0 + 4000), 'proven');
});

test('X9: configuration that takes exactness away is said in sentences, and updates are refused with it', async (t) => {
  const node = await SourceNode.open(t, 'A1');
  const world = await start(t, node);
  await until(() => world.capture.report().inexact.length === 0, 'exact');
  Object.assign(node.state, { connector: 'false', filter: 'kxGTUQIBo2FiYwA=' });
  Object.assign(node.state.config, {
    'ship-versions-policy': 'latest',
    'bin-policy': 'only-changed',
    'ship-nsup-deletes': 'false',
    'ignore-expunges': 'true',
    'ship-only-specified-sets': 'true',
    'ignored-sets': 'a,b',
    forward: 'false',
  });
  await until(() => world.capture.report().inexact.length === 9, 'inexact');
  const said = world.capture.report().inexact.join('\n');
  for (const part of [
    'pitr: connector is false, not true',
    'test: ship-versions-policy is latest, not all: ',
    'test: bin-policy is only-changed, not all: ',
    'test: ship-nsup-deletes is false, not true: ',
    'test: ignore-expunges is true, not false: ',
    'test: ship-only-specified-sets is true, not false: ',
    'test: ignored-sets is a,b: ',
    'test: forward is false, not true: ',
    'test: a filter is set: ',
  ])
    assert.ok(said.includes(part), `${part} in ${said}`);
  const update = Buffer.from(write({ record: 1, lutMs: C0 + 1 }));
  update[11] = 0;
  assert.deepEqual(await (await world.peer()).ship(update), [16]);
});

test('X9: a recovery, changes that were given up and a restart are gaps from the last proof to the next', async (t) => {
  const node = await SourceNode.open(t, 'A1');
  const world = await start(t, node);
  pass(world, node, 5000);
  await until(isProven(world, C0 + 4000), 'proven');
  Object.assign(node.state.stats, { recoveries: 2049, abandoned: 2, lag: 3 });
  await rounds(node, 3);
  const open = world.capture.report().gaps;
  assert.deepEqual(
    open.map((g) => [g.sinceMs, g.untilMs]),
    [
      [C0 + 4000, undefined],
      [C0 + 4000, undefined],
    ],
  );
  node.state.stats.lag = 0;
  pass(world, node, 3000);
  await until(isProven(world, C0 + 7000), 'proven');
  const { gaps } = world.capture.report();
  assert.ok(gaps.some((g) => /recovery/.test(g.why) && g.sinceMs === C0 + 4000 && g.untilMs === C0 + 7000));
  assert.ok(gaps.some((g) => /gave up/.test(g.why)));
  // kept over a restart, and what moved while nobody looked is found
  await world.close();
  Object.assign(node.state.stats, { success: 3 });
  const again = await start(t, node, world.dir);
  await until(() => again.capture.report().gaps.some((g) => /A1 was restarted/.test(g.why)), 'the restart');
  assert.equal(again.capture.report().history.startMs, C0 + 4000);
});

test('a truncation is told before the frontier that it belongs to, and nothing older comes back', async (t) => {
  const node = await SourceNode.open(t, 'A1');
  const world = await start(t, node);
  const shipper = await world.peer();
  const old = write({ record: 1, lutMs: C0 + 100 });
  await shipper.ship(
    old,
    write({ record: 2, lutMs: C0 + 2000 }),
    write({ record: 3, lutMs: C0 + 100, set: 't' }),
    remove({ record: 9, lutMs: C0 + 100 }),
  );
  pass(world, node, 3000);
  await until(isProven(world, C0 + 2000), 'proven');
  // in ms since 2010, of set s
  node.state.truncations = `test|s=${C0 + 1500 - 1_262_304_000_000};other=5`;
  await rounds(node, 2);
  pass(world, node, 2000);
  await until(isProven(world, C0 + 4000), 'proven');
  const events = (await readLog(world.dir)).flatMap((e) => (e.kind === 'event' ? [e.event] : []));
  assert.equal(events.length, 1);
  const [cut] = events;
  assert.ok(cut.kind === 'truncate' && cut.set === 's' && cut.cutoffLut === C0 + 1500);
  assert.ok(cut.ts > C0 + 2000 && cut.ts <= C0 + 6000, `${cut.ts - C0}`);
  assert.equal(world.journal.row('test', digestOf(1)), undefined);
  assert.notEqual(world.journal.row('test', digestOf(2)), undefined);
  assert.notEqual(world.journal.row('test', digestOf(3)), undefined);
  const before = (await readVersions(world.dir)).length;
  assert.deepEqual(await shipper.ship(old), [0]);
  assert.equal((await readVersions(world.dir)).length, before);
  assert.equal(world.capture.report().listener.counts.truncated, 1);
});

test('a base that lacks records of the source is said', async (t) => {
  const node = await SourceNode.open(t, 'A1');
  node.state.objects = 5;
  const world = await start(t, node);
  await (await world.peer()).ship(write({ record: 1, lutMs: C0 + 10 }));
  pass(world, node, 5000);
  await until(isProven(world, C0 + 4000), 'proven');
  assert.ok(world.capture.report().inexact.some((s) => /has 5 records, 1 were shipped/.test(s)));
});

test('the least clock of several nodes counts, and both must be quiet', async (t) => {
  const a = await SourceNode.open(t, 'A1', (p) => p < 2048);
  const b = await SourceNode.open(t, 'B2', (p) => p >= 2048);
  for (const [node, other, name] of [
    [a, b, 'B2'],
    [b, a, 'A1'],
  ] as const) {
    node.state.clusterSize = 2;
    node.peer.script.info['peers-clear-std'] = `2,3000,[[${name},,[127.0.0.1:${other.peer.port}]]]`;
    node.peer.script.info['peers-generation'] = '2';
  }
  b.state.nowMs -= 2000;
  const world = await start(t, a);
  pass(world, a, 8000);
  b.state.nowMs += 8000;
  await until(isProven(world, C0 + 5000), 'proven');
  b.state.stats.in_queue = 1;
  await rounds(b, 2);
  pass(world, a, 8000);
  b.state.nowMs += 8000;
  await rounds(b, 3);
  assert.equal(world.journal.frontierTs, C0 + 5000);
});

test('a source that goes away holds the frontier, and the listener takes what comes all the same', async (t) => {
  const node = await SourceNode.open(t, 'A1');
  const world = await start(t, node);
  pass(world, node, 5000);
  await until(isProven(world, C0 + 4000), 'proven');
  const { port } = node.peer;
  await node.peer.close();
  await until(() => world.capture.report().proof.kind === 'held', 'held');
  assert.deepEqual(await (await world.peer()).ship(write({ record: 1, lutMs: C0 + 4500 })), [0]);
  pass(world, node, 5000);
  await node.peer.listen(port);
  await until(isProven(world, C0 + 9000), 'proven again');
});

test('a Community cluster does not ship: that is an error of who started this', async (t) => {
  const node = await SourceNode.open(t, 'A1');
  const { onInfo } = node.peer.script;
  node.peer.script = {
    ...node.peer.script,
    onInfo: (c) => (c.startsWith('get-stats') ? 'ERROR:25:enterprise only' : onInfo?.(c)),
  };
  await assert.rejects(start(t, node), (error) => isPitrError(error, 'aerospike-unsupported'));
});

test('a source that is not there yet is tried again', async (t) => {
  const node = await SourceNode.open(t, 'A1');
  const { port } = node.peer;
  await node.peer.close();
  const world = await start(t, node);
  assert.equal(world.capture.report().proof.kind, 'unknown');
  await node.peer.listen(port);
  pass(world, node, 5000);
  await until(isProven(world, C0 + 4000), 'proven');
  assert.ok(world.reports.length >= 2);
});
