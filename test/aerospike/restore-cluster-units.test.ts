/** Parts of a restore into a cluster: rows and filters byte for byte, URLs, hazards, definitions. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Info2, Info3 } from '../../engine/aerospike/bits.ts';
import { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import {
  clientOptionsOf,
  clusterPlace,
  keptClusterUrl,
  parseClusterUrl,
} from '../../engine/aerospike/client/cluster-url.ts';
import { appendImage, RowFlag } from '../../engine/aerospike/client/image-row.ts';
import { RowBatch, rowPlace } from '../../engine/aerospike/client/row-batch.ts';
import { encodeImage } from '../../engine/image.ts';
import { PartitionSet, sortKeyOf } from '../../engine/partition.ts';
import type { ClusterFacts, NamespaceFacts } from '../../restore/aerospike/cluster-facts.ts';
import type { ClusterMode } from '../../restore/aerospike/cluster-job.ts';
import {
  applyDefinitions,
  compareDefinitions,
  type Definition,
  definitionsOf,
} from '../../restore/aerospike/definitions.ts';
import { explainHazard, hazardsOf } from '../../restore/aerospike/hazards.ts';
import { lastUpdateBefore, setRefusal } from '../../restore/aerospike/range-load.ts';
import { withFewer } from '../../restore/aerospike/restore-cluster.ts';
import { RestoreState } from '../../restore/aerospike/restore-state.ts';
import { setsFilter } from '../../restore/aerospike/sets-filter.ts';
import { noRange } from '../../restore/range-totals.ts';
import type { DefinitionEvent } from '../../wal/event.ts';
import { freshSet, isError } from './client-support.ts';
import { Target } from './restore-support.ts';
import { digestOf, hex, u64, utf8 } from './wire-bytes.ts';

const KIND = { info1: 0, info2: Info2.write, info3: Info3.createOrReplace };
const NEVER = 0xffffffff;

/** The row that an image becomes, and what was seen in it. */
const rowOf = (bins: Record<string, { type: number; bytes: Buffer }>, isKeyed = true) => {
  const batch = new RowBatch(KIND, 10, 1000);
  const digest = digestOf('demo', 1, u64(7));
  const words = [0, 4, 8, 12, 16].map((at) => sortKeyOf(digest).readUInt32BE(at)) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const key = isKeyed ? { type: 1, bytes: u64(7) } : undefined;
  const image = encodeImage({ key, bins: new Map(Object.entries(bins)) });
  const place = rowPlace('test', utf8('demo'));
  const flags = appendImage(batch, place, 5, ...words, 0, NEVER, undefined, image, 0, image.length);
  return { flags, digest, frame: batch.frame(1000), rows: batch.rows };
};

describe('rows', () => {
  test('the example of the specification: one record as a batch', () => {
    const { frame, digest } = rowOf({ a: { type: 1, bytes: u64(7) } });
    const row = Buffer.concat([
      hex('00 00 00 00'),
      digest,
      hex('0e 00 01 10 00 00 ff ff ff ff 00 03 00 01'),
      hex('00 00 00 05 00 74 65 73 74 00 00 00 05 01 64 65 6d 6f'),
      hex('00 00 00 0a 02 01 00 00 00 00 00 00 00 07'),
      hex('00 00 00 0d 02 01 00 01 61 00 00 00 00 00 00 00 07'),
    ]);
    const body = Buffer.concat([hex('29'), hex('00 00 00 01 0d'), row]);
    const message = Buffer.concat([
      hex('16 08 00 00 00 00 00 00 00 00 00 00 00 00 00 00 03 e8 00 01 00 00'),
      hex(body.length.toString(16).padStart(8, '0')),
      body,
    ]);
    const head = u64(message.length);
    head[0] = 2;
    head[1] = 3;
    assert.deepEqual(frame.toString('hex'), Buffer.concat([head, message]).toString('hex'));
  });

  test('the persist-index flag never goes out (C6)', () => {
    const map = { type: 19, bytes: hex('82 c7 00 11 c0 01 02') };
    const masked = rowOf({ m: map });
    assert.equal(masked.flags, RowFlag.masked);
    assert.ok(masked.frame.includes(hex('82 c7 00 01 c0 01 02')) && !masked.frame.includes(map.bytes));
    const list = rowOf({
      a: { type: 1, bytes: u64(1) },
      l: { type: 20, bytes: hex('94 c7 00 10 01 02 03') },
    });
    assert.deepEqual([list.flags, list.rows], [RowFlag.persist, 0]);
    // the same bytes as an element, or in a blob, are somebody's data
    assert.equal(rowOf({ b: { type: 4, bytes: hex('94 c7 00 10 01 02 03') } }).flags, 0);
  });

  test('some rows of a batch go out again under their own numbers', () => {
    const batch = new RowBatch(KIND, 10, 1000);
    const place = rowPlace('test', utf8('s'));
    for (let n = 0; n < 3; n++) {
      batch.begin(place, n, n, 0, 0, 0, n, 0, NEVER, 0);
      batch.end(2, 0);
    }
    const whole = batch.frame(0);
    const part = batch.frameOf([2], 0);
    assert.equal(part.readUInt32BE(8 + 22 + 5), 1);
    assert.deepEqual(part.subarray(40), whole.subarray(40 + 2 * ((whole.length - 40) / 3)));
    assert.equal(part.readUInt32BE(40), 2);
  });
});

test('filters by last update and by sets, as a server reads them', () => {
  // aerospike-wire.md 5.3; 1,000 ms are 1e9 ns
  assert.equal(lastUpdateBefore(1000).toString('hex'), '93059142cf000000003b9aca00');
  assert.equal(setsFilter(['rz']).toString('hex'), '93019146a303727a');
  assert.equal(setsFilter(['rz', '']).toString('hex'), '931193019146a303727a93019146a103');
});

describe("a cluster's URL", () => {
  test('names hosts, user and how they are reached', () => {
    const url = parseClusterUrl(
      'aerospike://me@a:4000,[::1]:3001,b?tls-name=n&cluster-name=c&alternate=true',
    );
    assert.deepEqual(url.hosts, [
      { host: 'a', port: 4000 },
      { host: '::1', port: 3001 },
      { host: 'b', port: 3000 },
    ]);
    assert.equal(clusterPlace(url), 'aerospike://[::1]:3001,a:4000,b:3000');
    const options = clientOptionsOf(url, { PITR_AEROSPIKE_PASSWORD: 'pw' }, () => Buffer.alloc(0));
    assert.deepEqual(options.login, { mode: 'internal', user: 'me', password: 'pw' });
    assert.deepEqual(
      [options.tls, options.clusterName, options.useAlternateServices],
      [{ name: 'n' }, 'c', true],
    );
  });
  test('is kept with all that says how, and files are found from anywhere', () => {
    const text = 'aerospike://me%40x@b,a?tls-name=n&tls-ca=ca.pem&auth=external';
    const kept = keptClusterUrl(parseClusterUrl(text), (path) => `/etc/${path}`);
    assert.equal(kept, 'aerospike://me%40x@a:3000,b:3000?tls-name=n&tls-ca=%2Fetc%2Fca.pem&auth=external');
    assert.equal(keptClusterUrl(parseClusterUrl('aerospike://a:1'), String), 'aerospike://a:1');
    assert.equal(parseClusterUrl(kept).parameters['tls-ca'], '/etc/ca.pem');
  });
  test('has files of certificates read, and the user of the environment', () => {
    const url = parseClusterUrl('aerospike://a?tls-ca=ca.pem&auth=external');
    const env = { PITR_AEROSPIKE_USER: 'u', PITR_AEROSPIKE_PASSWORD: 'p' };
    const options = clientOptionsOf(url, env, (path) => Buffer.from(`<${path}>`));
    assert.deepEqual(options.tls, { ca: '<ca.pem>' });
    assert.deepEqual(options.login, { mode: 'external', user: 'u', password: 'p' });
  });
  test('never has a password in it, and is refused without host or with what nobody knows', () => {
    for (const text of [
      'aerospike://',
      'aerospike://a:b:c',
      'aerospike://a?what=1',
      'aerospike://a?tls=maybe',
      'file:x',
    ])
      assert.throws(() => parseClusterUrl(text), isError('usage'), text);
    assert.throws(
      () => parseClusterUrl('aerospike://me:secret@a'),
      (error: Error) => isError('usage')(error) && !error.message.includes('secret'),
    );
    const url = parseClusterUrl('aerospike://me@a');
    assert.throws(() => clientOptionsOf(url, {}, () => Buffer.alloc(0)), isError('usage'));
  });
});

describe('hazards', () => {
  const healthy: NamespaceFacts = {
    name: 'test',
    objects: 0,
    withoutSet: 0,
    sets: new Map(),
    nsupPeriodS: 120,
    allowsTtlWithoutNsup: false,
    recordBytesMax: 1024 * 1024,
    isStopped: false,
    isClockSkewed: false,
    isStronglyConsistent: false,
    replicationFactor: 2,
    migrations: 0,
    missingPartitions: 0,
    nowS: 0,
  };
  const kinds = (
    more: Partial<NamespaceFacts>,
    sets: readonly string[] = ['a'],
    namespace = 'test',
    partitions = { wanted: PartitionSet.all, archived: PartitionSet.all },
    mode: ClusterMode = 'exact',
    chosen?: readonly string[],
  ): string[] => {
    const facts: ClusterFacts = {
      nodes: ['a'],
      builds: ['7.1.0.0'],
      isCommunity: false,
      nowS: 0,
      batchRowsMax: 0,
      namespaces: new Map([['test', { ...healthy, ...more }]]),
    };
    const found = hazardsOf({
      facts,
      scopes: [{ namespace, sets: chosen }],
      sets: sets.map((set) => ({ namespace, set, versions: 1, bytes: 1 })),
      known: new Set(['test/a', ...Array.from({ length: 4095 }, (_, i) => `test/s${i}`)]),
      partitions,
      ttl: 'remaining',
      mode,
    });
    for (const h of found) assert.ok(explainHazard(h).what !== '' && explainHazard(h).hint !== '');
    return found.map((h) => `${h.kind}${h.stops ? '!' : ''}`);
  };
  const cases: readonly (readonly [string, Partial<NamespaceFacts>, readonly string[], readonly string[]])[] =
    [
      ['none', {}, ['a'], []],
      ['stop-writes', { isStopped: true }, ['a'], ['stop-writes!']],
      ['clocks apart', { isClockSkewed: true }, ['a'], ['clock-skew!']],
      ['dead partitions', { missingPartitions: 3 }, ['a'], ['partitions-missing!']],
      ['no nsup', { nsupPeriodS: 0 }, ['a'], ['ttl-refused']],
      ['no nsup, and allowed', { nsupPeriodS: 0, allowsTtlWithoutNsup: true }, ['a'], []],
      ['small records', { recordBytesMax: 1000 }, ['a'], ['large-records']],
      [
        'a set that was never archived',
        {
          sets: new Map([
            ['a', 1],
            ['z', 2],
            ['empty', 0],
          ]),
        },
        ['a'],
        ['never-archived!'],
      ],
      ['records without a set, never archived', { withoutSet: 1 }, ['a'], ['never-archived!']],
      ['migrations', { migrations: 4 }, ['a'], ['migrations']],
      ['bad set names', {}, ['a:b', 'x'.repeat(64), 'c;d'], ['set-name', 'set-name', 'set-name']],
      [
        'too many sets',
        { sets: new Map(Array.from({ length: 4095 }, (_, i) => [`s${i}`, 1])) },
        ['new'],
        ['too-many-sets'],
      ],
    ];
  for (const [name, facts, sets, expected] of cases)
    test(name, () => assert.deepEqual(kinds(facts, sets), expected));
  test('a namespace that is not there', () =>
    assert.deepEqual(kinds({}, ['a'], 'other'), ['namespace-missing!']));
  test('partitions that the archive does not have: with exact nothing is begun', () => {
    const some = { wanted: PartitionSet.parse('0-200'), archived: PartitionSet.parse('0-99') };
    assert.deepEqual(kinds({}, ['a'], 'test', some), ['partitions-not-archived!']);
    assert.deepEqual(kinds({}, ['a'], 'test', some, 'add'), ['partitions-not-archived']);
  });
  test('names that nothing was archived under', () => {
    assert.deepEqual(kinds({}, []), ['nothing-archived']);
    assert.deepEqual(kinds({}, ['a'], 'test', undefined, 'add', ['a', 'b']), ['nothing-archived']);
  });
  test('names of sets', () => {
    assert.deepEqual(['ok', 'ü'.repeat(32), 'a:b'].map(setRefusal), [
      undefined,
      'set-name-too-long',
      'set-name-invalid',
    ]);
  });
});

test('ranges are cut until they have few records, each partition once (C7)', () => {
  const whole = [{ start: 0, end: 4096 }];
  assert.deepEqual(withFewer(whole, 1000), whole);
  const cut = withFewer(
    [
      { start: 0, end: 10 },
      { start: 20, end: 25 },
    ],
    1_000_000,
  );
  assert.deepEqual(
    cut.map(({ start, end }) => [start, end]),
    [
      [0, 3],
      [3, 6],
      [6, 9],
      [9, 10],
      [20, 23],
      [23, 25],
    ],
  );
  assert.equal(withFewer(whole, 1e10).length, 4096);
});

test('a state is gone on with by the restore that it is of, and by no other', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'pitr-restore-state-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const wanted = {
    archive: 'a',
    timeline: 't',
    ts: 1,
    selection: {},
    ttl: 'never',
    mode: 'none',
    conflict: 'overwrite',
    target: 'aerospike://a:3000',
  };
  const progress = { startedMs: 5, partitions: '0-9', ranges: 1, totals: noRange(1), isFinished: false };
  RestoreState.open(dir, wanted).record(progress);
  assert.deepEqual(RestoreState.open(dir, wanted).progress, progress);
  for (const other of [
    { ts: 2 },
    { mode: 'exact' },
    { target: 'aerospike://b:3000' },
    { selection: { sets: ['s'] } },
  ])
    assert.throws(() => RestoreState.open(dir, { ...wanted, ...other }), isError('target-begun'));
});

describe('definitions', () => {
  const SET = freshSet();
  const INDEX = `${SET}-ix`;
  const MODULE = `${SET}.lua`;
  const body = (text: string): Uint8Array => utf8(text);
  const event = (lsn: number, more: Partial<DefinitionEvent>): DefinitionEvent => ({
    kind: 'definition',
    stream: 's',
    epoch: 1,
    lsn,
    ts: lsn,
    what: 'sindex',
    namespace: 'test',
    name: INDEX,
    body: null,
    ...more,
  });
  const listed = (set: string, bin = 'b'): string =>
    `ns=test:indexname=${INDEX}:set=${set}:bin=${bin}:type=numeric:indextype=default:context=null:exp=null:state=RW`;
  const scopes = [{ namespace: 'test', sets: undefined }];
  let target: Target;
  let client: AerospikeClient;
  before(async () => {
    target = await Target.open();
    client = await AerospikeClient.connect({ hosts: [{ host: target.host, port: target.port }] });
  });
  after(async () => {
    await target.wire.info(
      `sindex-delete:namespace=test;indexname=${INDEX}`,
      `udf-remove:filename=${MODULE};`,
    );
    await client.close();
    await target.close();
  });

  test('in force is the last of each name, unless that removes it; under the new names', () => {
    const events = [
      event(3, { body: body(listed(SET, 'new')) }),
      event(1, { body: body(listed(SET, 'old')) }),
      event(1, { name: 'gone', body: body(listed(SET)) }),
      event(2, { name: 'gone' }),
      event(1, { what: 'udf', namespace: null, name: 'm.lua', body: body('local a = 1') }),
    ];
    const [index, module, ...more] = definitionsOf(events, {}, scopes);
    assert.deepEqual(more, []);
    assert.deepEqual(index, {
      what: 'sindex',
      name: INDEX,
      namespace: 'test',
      fields: { set: SET, bin: 'new', type: 'numeric', indextype: 'default' },
    });
    assert.deepEqual([module?.what, module?.name], ['udf', 'm.lua']);
    const selection = { sets: [SET], renameNamespaces: { test: 'bar' }, renameSets: { [SET]: 'other' } };
    const renamed = definitionsOf(events, selection, [{ namespace: 'bar', sets: ['other'] }]);
    assert.deepEqual(
      renamed.map((d) => d.what === 'sindex' && [d.namespace, d.fields.set]),
      [['bar', 'other']],
    );
    assert.deepEqual(definitionsOf(events, { sets: ['none'] }, scopes), []);
  });

  test('what is missing is made; what is equal is not touched; what differs only when it is said (C9)', async () => {
    const wanted = (bin: string, lua: string): Definition[] =>
      definitionsOf(
        [
          event(1, { body: body(listed(SET, bin)) }),
          event(1, { what: 'udf', namespace: null, name: MODULE, body: body(lua) }),
        ],
        {},
        scopes,
      );
    const done = async (definitions: Definition[], replace = false): Promise<string[]> =>
      (await applyDefinitions(client, await compareDefinitions(client, definitions), replace)).map(
        (r) => r.result,
      );
    const changes = async (): Promise<string> =>
      (await target.wire.info('smd-info'))[0]!.replaceAll(/committed_key=\w*/g, '');
    assert.deepEqual(await done(wanted('b', 'local a = 1')), ['created', 'created']);
    const before = await changes();
    assert.deepEqual(await done(wanted('b', 'local a = 1')), ['equal', 'equal']);
    assert.deepEqual(await done(wanted('c', 'local a = 2')), ['differs', 'differs']);
    assert.equal(await changes(), before, 'nothing was dropped or made');
    assert.deepEqual(await done(wanted('c', 'local a = 2'), true), ['replaced', 'replaced']);
    const [list, module] = await target.wire.info(
      'sindex-list:namespace=test;b64=true',
      `udf-get:filename=${MODULE}`,
    );
    assert.match(list!, new RegExp(`indexname=${INDEX}:set=${SET}:bin=c:`));
    assert.match(module!, new RegExp(`content=${Buffer.from('local a = 2').toString('base64')};`));
  });

  test('what a server refuses is said, with its words', async () => {
    const index: Definition = {
      what: 'sindex',
      name: `${INDEX}-2`,
      namespace: 'test',
      fields: { set: SET, bin: 'b', type: 'nonsense' },
    };
    const [result] = await applyDefinitions(client, [{ definition: index, step: 'missing' }], false);
    assert.equal(result?.result, 'refused');
    assert.ok(result?.why);
  });
});
