/**
 * A writer and its agent are stopped in the middle of their work (SIGSTOP), as by a hypervisor or a long sleep. Meanwhile their
 * database is restored and goes on as a new timeline. When they wake they go on where they were: on the old one.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isPitrError } from '../../engine/errors.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { resolveTarget } from '../../restore/target.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { Child } from '../kill/child.ts';
import { fingerprintOf, Model } from '../kill/content.ts';
import { stateOf } from '../kill/state.ts';

const PAUSES = 3;

test('S8: a paused old writer that wakes changes nothing on the new timeline', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'pitr-paused-'));
  t.after(async () => {
    await Child.killAll();
    await rm(root, { recursive: true, force: true });
  });
  const old = join(root, 'old');
  const url = `file:${join(root, 'archive')}`;
  const { timeline: oldTimeline } = await Engine.init(old, { archive: url });
  const archive = await Archive.open(url);
  let acknowledged = 0;
  const writer = new Child('writer.ts', [old], (line) => {
    if (!line.startsWith('{')) acknowledged = Number(line);
  });
  const agent = new Child('agent.ts', [old]);
  const frontierOf = async (timeline: string): Promise<number> =>
    (await archive.head(timeline, 'main'))?.value.frontier.ts ?? 0;
  const passes = async (timeline: string, ts: number): Promise<void> => {
    for (const end = Date.now() + 30_000; (await frontierOf(timeline)) <= ts; await sleep(20))
      assert.ok(Date.now() < end, `the frontier of ${timeline} stays at or below ${ts}`);
  };
  const restored = async (timeline: string, target: string): Promise<Map<string, string>> => {
    const dir = join(root, `check-${Math.random()}`);
    await restoreEngine(dir, undefined, { archive: url, timeline, target, workers: 0 });
    const engine = await Engine.open({ dir, sealMs: 0 });
    const state = await stateOf(engine);
    await engine.close();
    await rm(dir, { recursive: true });
    return state;
  };
  /** Everything that the archive has of a timeline, byte by byte. */
  const everythingOf = async (timeline: string): Promise<unknown> => [
    (await archive.store.readSwap(archive.headName(timeline, 'main')))?.bytes.toString(),
    await Promise.all(
      (await archive.store.list(`segments/${timeline}/`)).map(async ({ name }) => [
        name,
        (await archive.store.read(name)).toString('hex'),
      ]),
    ),
    (await archive.timelines()).timelines.find((x) => x.id === timeline),
  ];

  let before = 0;
  for (let pause = 1; pause <= PAUSES; pause++) {
    await passes(oldTimeline, before);
    await sleep(Math.random() * 200);
    agent.pause();
    writer.pause();
    const forkDir = join(root, `fork-${pause}`);
    const { target } = await restoreEngine(forkDir, undefined, {
      archive: url,
      timeline: oldTimeline,
      target: 'latest',
      workers: 0,
    });
    const engine = await Engine.open({ dir: forkDir, sealMs: 0 });
    const model = await stateOf(engine);
    // none yet when it was paused that early
    const inherited = Number(model.get('counter') ?? 0);
    for (let n = 0; n < 40; n++) {
      await engine.put(
        { namespace: 'test', set: 's', key: `fork.${n % 7}` },
        { key: `fork.${n % 7}`, text: `${n}` },
      );
      model.set(`fork.${n % 7}`, `${n}`);
    }
    await engine.delete({ namespace: 'test', set: 's', key: 'counter' });
    model.delete('counter');
    const mark = await engine.mark(`on-fork-${pause}`);
    await engine.close();
    const archiver = await Archiver.open(forkDir);
    await archiver.archivePending();
    await archiver.close();
    const timeline = engine.identity.timeline;
    const then = await everythingOf(timeline);

    const step = acknowledged;
    before = await frontierOf(oldTimeline);
    writer.wake();
    agent.wake();
    await writer.line((line) => Number(line) > step + 8);
    // not only the seal that was due when it woke: also what it wrote since
    await passes(oldTimeline, Date.now());

    assert.deepEqual(await everythingOf(timeline), then, 'the new timeline in the archive, byte by byte');
    assert.deepEqual(await restored(timeline, 'latest'), model, 'the state of the new timeline');
    // the newest is the default, and has nothing of what the old one wrote since
    const onlyOld = await frontierOf(oldTimeline);
    const view = await ArchiveView.read(archive);
    assert.equal(view.timeline.id, timeline);
    await assert.rejects(
      resolveTarget(view, String(onlyOld), Date.now()),
      (e) => isPitrError(e, 'target-elsewhere') && `${e.facts.found}`.includes(oldTimeline),
    );
    assert.ok(target.ts < mark.ts);
    // and the old one is whole: everything it acknowledged, and nothing of the fork
    const state = await restored(oldTimeline, 'latest');
    const expected = new Model();
    expected.advanceTo(Number(state.get('counter')));
    assert.ok(expected.steps > inherited);
    assert.equal(fingerprintOf(state), expected.fingerprint());
  }
  await writer.kill();
  await agent.kill();
});
