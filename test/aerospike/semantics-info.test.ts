/** Commands in text: what clients and tools ask a server about itself, its namespaces, sets and definitions. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import { NAMESPACE, putOf, removeOf, Subject } from './subject.ts';
import { frame, int, utf8 } from './wire-bytes.ts';

const pairs = (text: string): Map<string, string> =>
  new Map(
    text
      .split(';')
      .filter((part) => part !== '')
      .map((part) => {
        const at = part.indexOf('=');
        return [part.slice(0, at), part.slice(at + 1)];
      }),
  );

describe('info', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());

  const info = async (command: string): Promise<string> => (await wire.info(command))[0]!;

  test('each command is answered with itself, a tab and its value, in the order asked', async () => {
    const [node, build, again, status] = await wire.info('node', 'build', 'node', 'status');
    assert.match(node!, /^[0-9A-F]{1,16}$/);
    assert.match(build!, /^8\.1\.\d+\.\d+/);
    assert.equal(again, node);
    assert.equal(status, 'ok');
  });

  test('a command without an end is none', async () => {
    const own = await subject.connect();
    for (const [text, answer] of [
      ['status', ''],
      ['status\nbuild', 'status\tok\n'],
    ] as const) {
      own.send(frame(1, utf8(text)));
      assert.equal((await own.receive())!.body.toString(), answer);
    }
  });

  test('no command at all is answered with a summary', async () => {
    const own = await subject.connect();
    own.send(frame(1, Buffer.alloc(0)));
    const text = (await own.receive())!.body.toString();
    for (const name of ['node', 'build', 'features', 'edition'])
      assert.match(text, new RegExp(`^${name}\t`, 'm'));
  });

  test('what does not exist is an unrecognized command', async () => {
    for (const command of ['nonsense', 'nonsense:a=b', 'bins', 'jobs', 'scan-show'])
      assert.deepEqual([command, await info(command)], [command, 'ERROR:4:unrecognized command']);
  });

  test('what only Enterprise Edition has is refused as such', async () => {
    for (const command of ['rack-ids', 'racks:', 'feature-key', 'service-tls-std', 'peers-tls-std'])
      assert.deepEqual([command, await info(command)], [command, 'ERROR:25:enterprise only']);
  });

  describe('for a client that connects', () => {
    test('build, edition and features, which name partition scans', async () => {
      const features = (await info('features')).split(';');
      for (const feature of [
        'pscans',
        'query-show',
        'batch-any',
        'pquery',
        'replicas',
        'peers',
        'cluster-stable',
      ])
        assert(features.includes(feature), feature);
      assert.match(await info('edition'), /Community Edition/);
      assert.match(await info('version'), /Community Edition build 8\.1\./);
    });

    test('generations are integers', async () => {
      for (const name of ['partition-generation', 'peers-generation', 'rebalance-generation'])
        assert.match(await info(name), /^\d+$/);
    });

    test('peers: a generation, the port, and a list of the others', async () => {
      assert.match(await info('peers-clear-std'), /^\d+,\d*,\[.*\]$/);
      assert.equal((await info('peers-clear-std')).split(',')[0], await info('peers-generation'));
    });

    test('the address at which it is reached', async () => {
      assert((await info('service-clear-std')).split(',').includes(`${subject.host}:${subject.port}`));
    });

    test('replicas: a bitmap of 4,096 partitions for each namespace; one node alone has all', async () => {
      const namespaces = (await info('replicas')).split(';').map((part) => part.split(/[:,]/));
      assert(namespaces.some(([name]) => name === NAMESPACE));
      for (const [, regime, factor, ...bitmaps] of namespaces) {
        assert.match(regime!, /^\d+$/);
        assert.equal(Number(factor), bitmaps.length);
        for (const bitmap of bitmaps) assert.equal(Buffer.from(bitmap, 'base64').length, 512);
      }
      if ((await info('peers-clear-std')).endsWith('[]'))
        for (const [, , , master] of namespaces)
          assert(Buffer.from(master!, 'base64').every((byte) => byte === 0xff));
    });

    test('the user agent is taken', async () => {
      assert.equal(await info(`user-agent-set:value=${utf8('1,test,not-set').toString('base64')}`), 'ok');
    });

    test('a stable cluster has a key in hex', async () => {
      assert.match(await info('cluster-stable:'), /^[0-9A-F]+$/);
      assert.equal(await info(`cluster-stable:namespace=${NAMESPACE}`), await info('cluster-stable:'));
      assert.match(await info('cluster-stable:namespace=nowhere'), /^ERROR:20:/);
    });
  });

  describe('namespaces and sets', () => {
    test('the namespaces are listed', async () => {
      assert((await info('namespaces')).split(';').includes(NAMESPACE));
    });

    test('a namespace tells of itself in pairs, asked with a slash or a colon', async () => {
      for (const command of [`namespace/${NAMESPACE}`, `namespace:${NAMESPACE}`]) {
        const values = pairs(await info(command));
        for (const name of [
          'objects',
          'master_objects',
          'current_time',
          'expired_objects',
          'evicted_objects',
          'truncate_lut',
          'nsup-period',
          'default-ttl',
          'client_delete_success',
          'client_write_success',
          'deleted_last_bin',
          'migrate_rx_partitions_active',
          'unavailable_partitions',
          'dead_partitions',
        ])
          assert.match(values.get(name) ?? '', /^\d+$/, name);
        for (const name of ['strong-consistency', 'stop_writes', 'clock_skew_stop_writes'])
          assert.equal(values.get(name), 'false', name);
        const now = Number(values.get('current_time')) + 1_262_304_000;
        assert(Math.abs(now - Date.now() / 1000) < 60, `${now}, seconds since 2010 and 1970`);
      }
    });

    test('of a namespace that does not exist the type is unknown', async () => {
      assert.equal(await info('namespace/nowhere'), 'type=unknown');
      assert.equal(await info('namespace:nowhere'), 'type=unknown');
    });

    test('a set is listed with its records, one that nobody wrote to is nothing', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)]));
      const values = /^objects=1:tombstones=0:.*:truncate_lut=0:.*:truncating=false:.*;$/;
      assert.match(await info(`sets/${NAMESPACE}/${subject.set}`), values);
      for (const command of ['sets', `sets/${NAMESPACE}`]) {
        const name = `ns=${NAMESPACE}:set=${subject.set}:`;
        const line = (await info(command)).split(';').find((each) => each.startsWith(name));
        assert.match(`${line?.slice(name.length)};`, values);
      }
      assert.equal(await info(`sets/${NAMESPACE}/never-was`), '');
      assert.equal(await info('sets/nowhere'), 'ns_type=unknown');
    });

    test('a set stays in the list when its last record has gone', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)]));
      await wire.call(removeOf(record));
      assert.match(await info(`sets/${NAMESPACE}/${subject.set}`), /^objects=\d+:/);
    });

    test('deletes are counted', async () => {
      const count = async () =>
        Number(pairs(await info(`namespace/${NAMESPACE}`)).get('client_delete_success'));
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)]));
      const before = await count();
      await wire.call(removeOf(record));
      assert((await count()) > before);
    });

    test('partitions are told one a line, with their records', async () => {
      const lines = (await info('partition-info')).split(';').filter((line) => line !== '');
      const [head, ...rows] = lines.map((line) => line.split(':'));
      assert.deepEqual(head!.slice(0, 3), ['namespace', 'partition', 'state']);
      const ours = rows.filter(([namespace]) => namespace === NAMESPACE);
      assert.deepEqual(
        ours.map(([, partition]) => Number(partition)),
        Array.from({ length: 4096 }, (_, i) => i),
      );
      assert(
        ours.every((row) => row.length === head!.length && /^\d+$/.test(row[head!.indexOf('records')]!)),
      );
    });
  });

  describe('the node', () => {
    test('statistics are pairs', async () => {
      const values = pairs(await info('statistics'));
      assert.match(values.get('uptime') ?? '', /^\d+$/);
      assert.match(values.get('time_since_rebalance') ?? '', /^\d+$/);
      assert.equal(values.get('cluster_key'), await info('cluster-stable:'));
    });

    test('changes of definitions are counted by kind', async () => {
      const text = await info('smd-info');
      for (const kind of ['sindex', 'truncate', 'UDF'])
        assert.match(
          text,
          new RegExp(`(^|;)${kind}:committed_key=[0-9A-F]+,committed_tid=\\d+,n_keys=\\d+,`),
        );
    });

    test('the configuration of a namespace is pairs', async () => {
      const values = pairs(await info(`get-config:context=namespace;namespace=${NAMESPACE}`));
      assert.match(values.get('nsup-period') ?? '', /^\d+$/);
      assert.match(await info('get-config:context=namespace;namespace=nowhere'), /^ERROR:20:/);
    });
  });

  describe('secondary indexes', () => {
    const indexName = `ix-${subject.set}`;
    const listed = async (): Promise<string | undefined> =>
      (await info(`sindex-list:namespace=${NAMESPACE}`))
        .split(';')
        .find((line) => line.includes(`:indexname=${indexName}:`));
    after(() => wire.info(`sindex-delete:namespace=${NAMESPACE};indexname=${indexName}`));

    test('a definition is made, listed, and found by name, until it is deleted', async () => {
      const named = `namespace=${NAMESPACE};indexname=${indexName}`;
      assert.equal(await info(`sindex-exists:${named}`), 'false');
      assert.equal(await info(`sindex-create:${named};set=${subject.set};bin=a;type=numeric`), 'ok');
      assert.equal(await info(`sindex-exists:${named}`), 'true');
      const line = (await listed())!;
      assert.match(
        line,
        new RegExp(`^ns=${NAMESPACE}:indexname=${indexName}:set=${subject.set}:bin=a:type=numeric:`),
      );
      assert.match(line, /:indextype=default:context=null:exp=null:state=(RW|WO)$/);
      assert.equal(await info(`sindex-delete:${named}`), 'ok');
      assert.equal(await info(`sindex-exists:${named}`), 'false');
      assert.equal(await listed(), undefined);
    });

    test('what there is not may be deleted, and has no statistics', async () => {
      assert.equal(await info(`sindex-delete:namespace=${NAMESPACE};indexname=nope`), 'ok');
      assert.match(await info(`sindex-stat:namespace=${NAMESPACE};indexname=nope`), /^ERROR:201:/);
    });

    test('a definition in the older words is made, too', async () => {
      const older = `ns=${NAMESPACE};set=${subject.set};indexname=${indexName};indextype=mapkeys;indexdata=b,string`;
      assert.equal(await info(`sindex-create:${older}`), 'ok');
      assert.match((await listed())!, /:bin=b:type=string:indextype=mapkeys:/);
      assert.equal(await info(`sindex-delete:ns=${NAMESPACE};indexname=${indexName}`), 'ok');
    });

    test('one that says too little is refused with 4', async () => {
      for (const more of [';bin=a', ';type=numeric', ';bin=a;type=odd'])
        assert.match(
          await info(`sindex-create:namespace=${NAMESPACE};indexname=${indexName}${more}`),
          /^ERROR:4:/,
        );
    });
  });

  describe('user-defined functions', () => {
    const filename = `f${subject.set.slice(3)}.lua`;
    const content = utf8('function one(rec) return 1 end\n').toString('base64');
    after(() => wire.info(`udf-remove:filename=${filename};`));

    test('a module is put, listed and read back, until it is removed', async () => {
      assert.equal(await info(`udf-get:filename=${filename}`), 'error=not_found');
      const put = `udf-put:filename=${filename};content=${content};content-len=${content.length};udf-type=LUA;`;
      assert.equal(await info(put), 'ok');
      assert.match(await info('udf-list'), new RegExp(`filename=${filename},hash=[0-9a-f]{40},type=LUA;`));
      const got = await info(`udf-get:filename=${filename}`);
      assert.match(got, new RegExp(`(^|;)content=${content.replaceAll(/[+/=]/g, '\\$&')};`));
      assert.equal(await info(`udf-remove:filename=${filename};`), 'ok');
      assert(!(await info('udf-list')).includes(filename));
      assert.equal(await info(`udf-remove:filename=${filename};`), 'ok', 'what is not there');
    });
  });
});
