/** Namespaces of Aerospike Vector Search as one recovery group: order, one instant, and when it may be started. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { AVS_STEPS, type AvsOptions, planAvs, restoreAvs } from '../../restore/aerospike/avs.ts';
import { missingIndexes } from '../../restore/aerospike/avs-metadata.ts';
import { defaultStateDir } from '../../restore/aerospike/restore-state.ts';
import { assertNarrow, errorOf, runPitr } from '../cli/run-pitr.ts';
import { isError } from './client-support.ts';
import { Source, Target } from './restore-support.ts';
import { digestOf, field, message, str, u64, utf8, WRITE } from './wire-bytes.ts';

const NAMESPACES = ['avs-meta', 'avs-index', 'vectors'];

describe('Aerospike Vector Search', () => {
  let source: Source;
  let target: Target;
  let then: string;
  const put = (namespace: string, set: string, key: string, bins: Record<string, string | number>) =>
    source.engine.put({ namespace, set, key }, bins);

  before(async () => {
    source = await Source.open(NAMESPACES);
    target = await Target.open(1, NAMESPACES);
    await put('avs-meta', 'indexes', 'quotes', { dimensions: 384 });
    await put('avs-meta', 'indexes', 'lost', { dimensions: 384 });
    await put('avs-meta', 'indexes', 'moved', { storage: 'elsewhere' });
    await put('avs-meta', 'other', 'nothing', { a: 1 });
    for (let n = 0; n < 20; n++) {
      await put('avs-index', 'quotes', `v${n}`, { neighbours: 'x' });
      await put('vectors', 'docs', `d${n}`, { text: `then ${n}` });
    }
    await put('avs-index', 'elsewhere', 'v', { neighbours: 'x' });
    then = await source.instant();
    await put('vectors', 'docs', 'd0', { text: 'later' });
    await put('avs-meta', 'indexes', 'late', { dimensions: 1 });
    await source.archived();
  });
  after(async () => {
    await target.close();
    source.close();
  });

  const options = (more: Partial<AvsOptions> = {}): AvsOptions => ({
    archive: source.archive,
    target: then,
    client: { hosts: [{ host: target.host, port: target.port }], tendIntervalMs: 50 },
    place: target.url,
    workers: 0,
    stateDir: (wanted) => defaultStateDir(source.dir, wanted),
    group: {
      metadata: 'avs-meta',
      index: [
        { namespace: 'avs-index', set: 'quotes' },
        { namespace: 'avs-index', set: 'elsewhere' },
      ],
      vectors: undefined,
    },
    address: undefined,
    ...more,
  });
  const objects = async (namespace: string): Promise<number> => {
    const [text] = await target.wire.info(`namespace/${namespace}`);
    return Number(/master_objects=(\d+)/.exec(text!)![1]);
  };

  test('is not restored under while it answers', async () => {
    const avs = createServer().listen(0, '127.0.0.1');
    await once(avs, 'listening');
    const { port } = avs.address() as { port: number };
    const address = { host: '127.0.0.1', port };
    await assert.rejects(restoreAvs(options({ address })), isError('avs-running'));
    assert.equal(await objects('avs-meta'), 0);
    avs.close();
  });

  test('a plan names every part, and indexes without data', async () => {
    const { plans, missingIndexes: missing } = await planAvs(options());
    assert.deepEqual(
      plans.map((p) => [p.step, p.plan.scopes[0]?.namespace]),
      [
        ['metadata', 'avs-meta'],
        ['index', 'avs-index'],
        ['vectors', 'vectors'],
      ],
    );
    assert.deepEqual(missing, ['lost']);
  });

  test('metadata first, then index data, then vectors, all of one instant', async () => {
    const events: (readonly unknown[])[] = [];
    const seen = (what: string) => events.push([what]);
    const report = await restoreAvs(
      options({ address: { host: '127.0.0.1', port: 1 }, onStep: seen, onMayStart: () => seen('may start') }),
    );
    assert.deepEqual(events.flat(), ['metadata', 'may start', 'index', 'vectors']);
    assert.deepEqual(
      report.steps.map((s) => s.step),
      [...AVS_STEPS],
    );
    assert.deepEqual(report.missingIndexes, ['lost']);
    const counts: number[] = [];
    for (const namespace of NAMESPACES) counts.push(await objects(namespace));
    assert.deepEqual(counts, [4, 21, 20]);
    const docs = [...(await target.state('docs', 'vectors')).values()].join();
    assert.ok(docs.includes(utf8('then 0').toString('hex')) && !docs.includes(utf8('later').toString('hex')));
  });

  test('the command says when it may be started, and needs to know that it is down', async () => {
    const args = [
      'restore',
      '--archive',
      source.archive,
      '--to',
      then,
      '--into',
      target.url,
      '--profile',
      'avs',
    ];
    const cwd = { cwd: source.dir };
    await errorOf(args, cwd, 'usage', 2);
    const more = ['--avs-is-down', '--avs-index', 'avs-index', '--mode', 'exact'];
    const { code, stdout, stderr } = await runPitr([...args, ...more], cwd);
    assert.equal(code, 0, stderr);
    assertNarrow(stdout);
    assert.match(stderr, /step 1 of 3[\s\S]*may be started now[\s\S]*step 2 of 3[\s\S]*step 3 of 3/);
    assert.match(stdout, /Warning: +the metadata names "lost"/);
  });

  test('sets of one namespace as index data and vectors, in one folder for the state, with a list of what is inexact', async () => {
    const base = [
      'restore',
      '--archive',
      source.archive,
      '--to',
      then,
      '--into',
      target.url,
      '--mode',
      'exact',
    ];
    const places = ['--avs-index', 'avs-index/quotes', '--avs-vectors', 'avs-index/elsewhere'];
    const more = ['--profile', 'avs', '--avs-is-down', '--state', 'one', '--inexact', 'list'];
    for (const set of ['quotes', 'elsewhere']) {
      const place = [utf8('avs-index'), utf8(set), digestOf(set, 1, u64(1))];
      const fields = place.map((data, i) => field([0, 1, 4][i]!, data));
      const { code } = await target.wire.call(message({ info2: WRITE, fields, ops: [str('a', 'extra')] }));
      assert.equal(code, 0);
    }
    for (const recheck of [[], ['--recheck']]) {
      const { code, stderr } = await runPitr([...base, ...more, ...recheck, ...places], { cwd: source.dir });
      assert.equal(code, 0, stderr);
    }
    assert.equal(readFileSync(join(source.dir, 'list'), 'utf8'), '');
    assert.equal(await objects('avs-index'), 21);
  });

  test('is not said to be there when the archive has no metadata', async () => {
    const group = { metadata: 'nowhere', index: [], vectors: undefined };
    const said = isError('usage', {
      hint: 'name it with --avs-meta; the archive has avs-index, avs-meta, vectors',
    });
    await assert.rejects(restoreAvs(options({ group, mode: 'exact' })), said);
  });

  test('what an index is called in metadata: its key, else a name; any text of the record may be its set', () => {
    const line = (record: object): string => JSON.stringify({ bins: {}, ...record });
    const lines = [
      line({ set: 'index-defs', key: 'a' }),
      line({ set: 'x', bins: { indexName: 'b', m: { deep: ['stored'] } } }),
      line({ set: 'index', bins: { name: 'c' } }),
      line({ set: 'index', key: 7, bins: { size: 3 } }),
      line({ set: 'nodes', key: 'd' }),
    ];
    assert.deepEqual(missingIndexes(lines, new Set(['stored'])), ['a', 'c']);
    assert.deepEqual(missingIndexes(lines, new Set(['stored', 'a', 'c'])), []);
  });
});
