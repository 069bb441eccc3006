/** What the simulation has found, each as the few steps that are left of its seed: the seed's meaning changes with the simulation. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { PartitionSet } from '../../engine/partition.ts';
import { S3Store } from '../../engine/s3-store.ts';
import { readArchived, writeArchived } from '../../wal/archived.ts';
import { Engine } from '../../wal/engine.ts';
import { Rng } from '../model/rng.ts';
import { clock, openLog, version, versionsOf } from '../wal/log-support.ts';
import { errnoError, logPath, MemoryFiles } from '../wal/memory-files.ts';
import { Disk } from './disk.ts';
import { ownRuntime, runIn } from './runtime.ts';
import { NO_TIMING, transportTo, warmS3 } from './s3-network.ts';
import { S3Service } from './s3-service.ts';
import { Process, Scheduler } from './scheduler.ts';
import { World } from './world.ts';

test('S2: a log file whose name the dead writer could not sync is there after a power cut (seed 1020)', async () => {
  const first = new MemoryFiles();
  const { log } = await openLog(first);
  log.append([version(1)]);
  first.before = (operation, path) => {
    if (operation === 'syncDir' && path === '/engine/log') throw errnoError('EIO');
  };
  await assert.rejects(log.sync(), { id: 'log-full' });
  const second = first.afterKill();
  const reopened = await openLog(second);
  reopened.log.append([version(1)]);
  await reopened.log.sync();
  const { entries } = await openLog(second.afterPowerCut(() => 0));
  assert.deepEqual(entries, versionsOf([version(1)]));
});

test('S2: what a sync that failed has dropped is not built upon (seed 6)', async () => {
  ownRuntime();
  const scheduler = new Scheduler(new Rng(1), 1_750_000_000_000);
  const disk = new Disk(new Rng(2));
  const during = async <T>(name: string, work: (process: Process) => Promise<T>): Promise<T> => {
    let result: { value: T } | undefined;
    const process = new Process(scheduler, name, { skewMs: 0 });
    process.start(async () => {
      result = { value: await work(process) };
    });
    await scheduler.run(() => result !== undefined, 1_000);
    return (result as { value: T }).value;
  };
  await during('first', async (process) => {
    const { log } = await openLog(disk.filesOf(process));
    log.append([version(1)]);
    await log.sync();
    log.append([version(2)]);
    scheduler.decide = (label) => (label.startsWith('append and sync') ? 'dropped' : undefined);
    await assert.rejects(log.sync(), { id: 'log-full' });
    scheduler.decide = undefined;
  });
  await during('second', async (process) => {
    const { log, recovery } = await openLog(disk.filesOf(process));
    assert.equal(recovery.lastLsn, 2);
    log.append([version(3)]);
    await log.sync();
  });
  disk.powerCut();
  const { entries } = await during('third', (process) => openLog(disk.filesOf(process)));
  assert.deepEqual(entries, versionsOf([version(1), version(2), version(3)]));
});

test('a log file that was removed although that was said to have failed does not stop trimming (seed 34)', async () => {
  const files = new MemoryFiles();
  const { log } = await openLog(files);
  for (const lsn of [1, 2, 3]) {
    log.append([version(lsn)]);
    await log.seal(clock(lsn));
  }
  await files.remove(logPath(1, 'wal'));
  assert.equal(await log.trim(2), 2);
  assert.deepEqual(files.namesIn('/engine/log'), ['000000000003.wal']);
});

test('F1: an engine writes nothing before it owned its partitions, though the clock was set back (seed 182)', async () => {
  ownRuntime();
  const world = new World(1, {}, false);
  const host = world.addHost('setup');
  const setup = world.process(host, 'setup');
  let ts: number | undefined;
  setup.start(async () => {
    await world.init(1);
    const [node] = world.nodes;
    assert(node.partitions.equals(PartitionSet.all));
    node.host.clock.skewMs = -60_000;
    const process = world.process(node.host, 'writer');
    const engine = await Engine.open({
      dir: node.dir,
      clock: world.clockOf(process),
      sealMs: 0,
      door: false,
      ...world.machineOf(process, node.host),
    });
    ts = (await engine.put({ namespace: 'test', set: '', key: 1 }, { a: 1 })).ts;
  });
  await runIn(setup, () => world.scheduler.run(() => ts !== undefined, 1_000));
  assert(ts !== undefined && ts >= world.history.fromTsOf('s0'), `${ts}`);
});

test('O1: an upload whose id was damaged on the way is begun anew (seed 2007)', async () => {
  await warmS3(new Rng(1));
  const service = new S3Service({ pageKeys: 1000, saysEtagOfParts: true, ignoresRanges: false });
  let begun = 0;
  const store = new S3Store({
    url: 's3://sim/db?endpoint=http://sim.invalid',
    timing: NO_TIMING,
    transport: transportTo(service, (answer, { method, query }) => {
      if (method !== 'POST' || !('uploads' in query) || begun++ > 0) return answer;
      return { ...answer, body: Buffer.from(answer.body.toString().replace('upload-', 'upload,')) };
    }),
  });
  Object.assign(store.options, { partBytes: 100 });
  const bytes = Buffer.alloc(1000, 'x');
  await store.create('large', bytes);
  assert.equal(begun, 2);
  assert.deepEqual(await store.read('large'), bytes);
});

test('a flipped bit in archived.json never lets the engine trim more than is archived', async () => {
  const files = new MemoryFiles();
  await writeArchived('/engine', { lsn: 123, sequence: 4 }, files);
  assert.deepEqual(await readArchived('/engine', files), { lsn: 123, sequence: 4 });
  const bytes = files.bytesOf('/engine/archived.json');
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes);
    flipped[bit >> 3] ^= 1 << (bit & 7);
    files.put('/engine/archived.json', flipped);
    const { lsn, sequence } = await readArchived('/engine', files);
    assert(lsn === 0 || (lsn === 123 && sequence === 4), `bit ${bit}: ${lsn}`);
  }
});
