/** Which branch a target is on (T1–T3): the default, the one that is named, and the right one when it is on another. */
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { PitrError } from '../../engine/errors.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { resolveTarget } from '../../restore/target.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { currentTimeline } from '../../wal/timeline.ts';
import { assertNarrow, errorOf, jsonOf, runPitr } from '../cli/run-pitr.ts';
import { Bench, key } from '../promises-support.ts';

describe('three timelines: a root, its fork, and the fork of that', async () => {
  /** Instants: before every fork, of a write of the root alone, of the fork alone, of the newest alone. */
  const at = { common: 0, root: 0, fork: 0, both: 0, newest: 0 };
  const id = { root: '', fork: '', newest: '' };
  const forkTs = { fork: 0, newest: 0 };
  const bench = await Bench.open({ after } as unknown as TestContext);

  before(async () => {
    const { clock } = bench;
    const ship = async (name: string): Promise<void> => {
      clock.step(10);
      await (await bench.reopen(name)).close();
      const archiver = await bench.archiver(name);
      await archiver.archivePending();
      await archiver.close();
    };
    const write = async (name: string, n: number, mark?: string): Promise<number> => {
      const engine = await bench.reopen(name);
      clock.step(10);
      const { ts } = await engine.put(key('x'), { n });
      if (mark !== undefined) await engine.mark(mark);
      await engine.close();
      return ts;
    };
    const fork = async (from: string, to: string, stream: string): Promise<number> => {
      const { target } = await restoreEngine(bench.path(to), stream, {
        archive: bench.url,
        target: 'latest',
        timeline: from,
        workers: 0,
        clock,
      });
      return target.ts;
    };
    const root = await bench.engine('root');
    id.root = root.identity.timeline;
    clock.step(10);
    at.common = (await root.put(key('x'), { n: 1 })).ts;
    await root.mark('everywhere');
    await root.close();
    await ship('root');
    const forkOf = async (name: 'fork' | 'newest', parent: string, stream: string): Promise<void> => {
      forkTs[name] = await fork(parent, name, stream);
      const engine = await bench.reopen(name);
      id[name] = engine.identity.timeline;
      await engine.close();
    };
    await forkOf('fork', id.root, 'root');
    at.fork = await write('fork', 20, 'of-the-fork');
    await write('fork', 21, 'twice');
    await ship('fork');
    await forkOf('newest', id.fork, 'other');
    at.newest = await write('newest', 30, 'twice');
    await ship('newest');
    // the root goes on beside them, and further than either
    at.both = at.newest;
    at.root = await write('root', 10, 'of-the-root');
    await ship('root');
    await createSnapshot(await bench.archive(), { kind: 'synthetic', timeline: id.root, label: 'copy' });
    await createSnapshot(await bench.archive(), { kind: 'incremental', timeline: id.newest, label: 'more' });
  });

  const resolve = async (text: string | number, timeline?: string) =>
    resolveTarget(await ArchiveView.read(await bench.archive(), timeline), String(text), bench.clock.nowMs());
  const elsewhere = (found: string) => (error: unknown) => {
    assert.ok(error instanceof PitrError, String(error));
    assert.deepEqual([error.id, error.facts.found], ['target-elsewhere', found]);
    assert.ok(error.hint.includes(`--timeline ${found.split(', ')[0]}`), error.hint);
    return true;
  };

  test('T1: the default is the timeline that joined last, whatever its clock says', async () => {
    const all = await (await bench.archive()).timelines();
    assert.equal(currentTimeline(all)?.id, id.newest);
    const older = all.timelines.map((t) => ({ ...t, createdMs: -t.createdMs }));
    assert.equal(currentTimeline({ ...all, timelines: older })?.id, id.newest);
    const view = await ArchiveView.read(await bench.archive());
    assert.equal(view.timeline.id, id.newest);
  });

  test('T1: a filtered copy is never the default, nor is a fork of one, while there is another history', () => {
    const timeline = { createdMs: 1, parent: null, detached: false, streams: [], ownership: [] };
    const parent = { timeline: 'copy', ts: 5, positions: {}, ttl: { mode: 'absolute', seconds: 0 } } as const;
    const timelines = [
      { ...timeline, id: 'whole' },
      { ...timeline, id: 'copy', detached: true },
      { ...timeline, id: 'of-copy', parent },
    ];
    assert.equal(currentTimeline({ archive: 'a', timelines })?.id, 'whole');
    assert.equal(currentTimeline({ archive: 'a', timelines: timelines.slice(1) })?.id, 'of-copy');
  });

  test('T2: an instant after the fork that only the old branch has', async () => {
    await assert.rejects(resolve(at.root), elsewhere(id.root));
    assert.deepEqual((await resolve(at.root, id.root)).alsoOn, []);
    assert.deepEqual(await bench.valuesAt(at.root, { timeline: id.root }), { x: 10 });
  });

  test('T2: a mark that only another branch has, below and above the chosen one', async () => {
    await assert.rejects(resolve('mark:of-the-root'), elsewhere(id.root));
    await assert.rejects(resolve('mark:of-the-fork', id.root), elsewhere(id.fork));
    await assert.rejects(resolve('mark:twice', id.root), elsewhere(`${id.fork}, ${id.newest}`));
    await assert.rejects(resolve('mark:nowhere'), (e: PitrError) => e.id === 'mark-unknown');
  });

  test('T2: a stream that only another branch has', async () => {
    await assert.rejects(resolve('lsn:other/1', id.root), elsewhere(id.newest));
    await assert.rejects(resolve('lsn:nobody/1'), (e: PitrError) => e.id === 'stream-unknown');
    await assert.rejects(resolve('lsn:other/99', id.root), (e: PitrError) => e.id === 'stream-unknown');
    await assert.rejects(resolve('lsn:root/0'), (e: PitrError) => e.id === 'target-nodata');
  });

  test('T2: what nobody has is refused as before', async () => {
    await assert.rejects(resolve(bench.clock.nowMs() + 60_000), (e: PitrError) => e.id === 'target-future');
    await assert.rejects(resolve(at.common - 60_000), (e: PitrError) => e.id === 'target-nodata');
  });

  test('T3: an instant, a mark and an LSN that several branches have are those of the chosen one, and that is said', async () => {
    const instant = await resolve(at.both);
    assert.deepEqual([instant.timeline, instant.alsoOn], [id.newest, [id.root]]);
    assert.deepEqual(await bench.valuesAt(at.both), { x: 30 });
    assert.deepEqual(await bench.valuesAt(at.both, { timeline: id.root }), { x: 1 });
    const mark = await resolve('mark:twice');
    assert.deepEqual([mark.timeline, mark.alsoOn], [id.newest, [id.fork]]);
    // root/1 is the first position of the root, and of its fork, whose stream has the same name
    const lsn = await resolve('lsn:root/1');
    assert.deepEqual([lsn.timeline, lsn.ts, lsn.alsoOn], [id.fork, at.fork, [id.root]]);
    assert.equal((await resolve('lsn:root/1', id.root)).ts, at.common);
  });

  test('T3: before the forks there is one state, and nothing to choose', async () => {
    for (const timeline of Object.values(id)) {
      assert.deepEqual(await resolve(at.common, timeline), {
        text: String(at.common),
        ts: at.common,
        position: 'past',
        timeline: id.root,
        alsoOn: [],
      });
      assert.deepEqual((await resolve('mark:everywhere', timeline)).alsoOn, []);
    }
    const edge = await resolve(forkTs.newest);
    assert.deepEqual([edge.timeline, edge.alsoOn], [id.fork, [id.root]]);
  });

  test('T2 T3 on the command line: refused with the flag that helps, which then works; ambiguity is in the report', async () => {
    const run = { cwd: bench.dir };
    const to = (target: string | number, ...more: string[]) =>
      ['restore', '--archive', bench.url, '--json-lines', '--to', String(target), ...more] as const;
    const { message, hint, facts } = await errorOf(
      ['get', 'test/s/x', '--archive', bench.url, '--at', 'mark:of-the-root'],
      run,
      'target-elsewhere',
      28,
    );
    assert.ok(message.includes(id.newest) && message.includes(id.root), message);
    assert.deepEqual(facts.found, id.root);
    const flag = /--timeline [0-9a-f]{16}/.exec(hint)?.[0].split(' ') as string[];
    const { record } = await jsonOf(
      ['get', 'test/s/x', '--archive', bench.url, '--at', 'mark:of-the-root', ...flag],
      run,
    );
    assert.equal(record.bins.n, 10);
    const refused = await runPitr(to(at.root), run);
    assert.deepEqual([refused.code, refused.stdout], [28, '']);
    assert.match(refused.stderr, new RegExp(`hint: .*--timeline ${id.root}`));
    const plan = ['restore', '--archive', bench.url, '--dry-run', '--to', String(at.both)];
    assert.deepEqual((await jsonOf(plan, run)).target.alsoOn, [id.root]);
    const shown = await runPitr(plan, run);
    assert.match(shown.stdout, new RegExp(`Also on: +${id.root}: another state`));
    assertNarrow(shown.stdout);
    const lines = await runPitr(to(at.both, '--timeline', id.root), run);
    assert.equal(JSON.parse(lines.stdout).bins.n, 1);
    assert.match(lines.stderr, new RegExp(`Also on: +${id.newest}`));
  });

  test('chain shows the tree: three timelines in 80 columns, and for programs', async () => {
    const run = { cwd: bench.dir };
    const tree = await runPitr(['chain', '--archive', bench.url, '--tree'], run);
    assertNarrow(tree.stdout);
    const shape = tree.stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/(synthetic|incremental|log to).*/, '$1'));
    const iso = (ts: number): string => new Date(ts).toISOString();
    assert.deepEqual(shape, [
      `timeline ${id.root}`,
      '├─ log to',
      '├─ synthetic',
      `└─ timeline ${id.fork} from ${iso(forkTs.fork)}`,
      '   ├─ log to',
      `   └─ timeline ${id.newest} from ${iso(forkTs.newest)} (default)`,
      '      ├─ log to',
      '      └─ incremental',
    ]);
    const plain = await runPitr(['chain', '--archive', bench.url], run);
    assertNarrow(plain.stdout.split('\n').slice(1).join('\n'));
    const { timelines, defaultTimeline } = await jsonOf(['chain', '--archive', bench.url], run);
    assert.equal(defaultTimeline, id.newest);
    assert.deepEqual(
      timelines.map((t: { id: string; parent: string | null; forkTs: number | null }) => [
        t.id,
        t.parent,
        t.forkTs,
      ]),
      [
        [id.root, null, null],
        [id.fork, id.root, forkTs.fork],
        [id.newest, id.fork, forkTs.newest],
      ],
    );
  });
});
