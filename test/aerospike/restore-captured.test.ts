/** From one cluster through capture and archive into another: the corpus of records byte for byte, with indexes and modules. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ClusterReport } from '../../restore/aerospike/cluster-report.ts';
import { restoreCluster } from '../../restore/aerospike/restore-cluster.ts';
import { defaultStateDir } from '../../restore/aerospike/restore-state.ts';
import { jsonOf } from '../cli/run-pitr.ts';
import { recordCorpus } from '../engine/record-corpus.ts';
import { freshSet, isError } from './client-support.ts';
import { checkCorpusRecord, corpusAddress, writeCorpusRecord } from './corpus-on-the-wire.ts';
import { Target } from './restore-support.ts';
import { existsOf, removeOf } from './subject.ts';

describe('captured from a cluster, restored into another', () => {
  const SET = freshSet();
  const INDEX = `${SET}-ix`;
  const MODULE = `${SET}.lua`;
  const corpus = recordCorpus.map((record, i) => corpusAddress(SET, record, i));
  const cwd = mkdtempSync(join(tmpdir(), 'pitr-captured-'));
  let source: Target;
  let target: Target;
  let report: ClusterReport;

  before(async () => {
    source = await Target.open(1, ['test']);
    target = await Target.open();
    const { wire } = source;
    for (const [i, record] of recordCorpus.entries()) await writeCorpusRecord(wire, corpus[i]!, record);
    const content = Buffer.from('local a = 1').toString('base64');
    assert.deepEqual(
      await wire.info(
        `sindex-create:namespace=test;set=${SET};indexname=${INDEX};bin=v;type=numeric`,
        `udf-put:filename=${MODULE};content=${content};content-len=${content.length};udf-type=LUA;`,
      ),
      ['ok', 'ok'],
    );
    await jsonOf(['agent', '--once', '--source', source.url, '--archive', 'file:archive', 'capture'], {
      cwd,
    });
    report = await restoreCluster({
      archive: `file:${join(cwd, 'archive')}`,
      target: 'latest',
      client: { hosts: [{ host: target.host, port: target.port }], tendIntervalMs: 50 },
      place: target.url,
      mode: 'add',
      ttl: 'never',
      workers: 0,
      stateDir: (wanted) => defaultStateDir(cwd, wanted),
    });
  });
  after(async () => {
    for (const address of corpus) await target.wire.call(removeOf(address));
    await target.wire.info(
      `sindex-delete:namespace=test;indexname=${INDEX}`,
      `udf-remove:filename=${MODULE};`,
    );
    await target.close();
    await source.close();
    rmSync(cwd, { recursive: true });
  });

  test('all of them, verified', () => {
    assert.deepEqual(
      [report.tally.written, report.tally.refused, report.verification.target],
      [recordCorpus.length, {}, 'equal'],
    );
  });

  for (const [i, record] of recordCorpus.entries())
    test(record.name, async () => {
      const { generation } = await target.wire.call(existsOf(corpus[i]!));
      await checkCorpusRecord(target.wire, corpus[i]!, record, { voidTime: 0, generation });
    });

  test('exact does not delete partitions that no agent captures', async () => {
    const part = ['--partitions', '0-9', '--archive', 'file:part', 'part'];
    await jsonOf(['agent', '--once', '--source', source.url, ...part], { cwd });
    const exact = restoreCluster({
      archive: `file:${join(cwd, 'part')}`,
      target: 'latest',
      client: { hosts: [{ host: source.host, port: source.port }], tendIntervalMs: 50 },
      place: source.url,
      mode: 'exact',
      workers: 0,
      stateDir: (wanted) => defaultStateDir(cwd, wanted),
    });
    await assert.rejects(
      exact,
      isError('restore-hazard', { hint: 'choose those that it has: --partitions 0-9' }),
    );
    const { code } = await source.wire.call(existsOf(corpus[0]!));
    assert.equal(code, 0);
  });

  test('indexes and modules', async () => {
    assert.deepEqual(
      report.definitions.map(({ what, name, result }) => [what, name, result]),
      [
        ['udf', MODULE, 'created'],
        ['sindex', INDEX, 'created'],
      ],
    );
    const [indexes, module] = await target.wire.info('sindex-list:b64=true', `udf-get:filename=${MODULE}`);
    assert.match(indexes!, new RegExp(`indexname=${INDEX}:set=${SET}:bin=v:type=numeric:`));
    assert.match(module!, new RegExp(`content=${Buffer.from('local a = 1').toString('base64')};`));
  });
});
