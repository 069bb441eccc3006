/** The corpus goes in over the wire, through log, archive and restore, and comes back over the wire byte for byte. */
import { strict as assert } from 'node:assert';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AerospikeServer } from '../../engine/aerospike/server/aerospike-server.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { recordCorpus } from '../engine/record-corpus.ts';
import { checkCorpusRecord, corpusAddress, writeCorpusRecord } from './corpus-on-the-wire.ts';
import { getOf, NAMESPACE, putOf, removeOf } from './subject.ts';
import { int } from './wire-bytes.ts';
import { WireConnection } from './wire-connection.ts';

const SET = 'corpus';

describe('the corpus of records comes back from the archive', async () => {
  const dir = await fs.mkdtemp(join(tmpdir(), 'pitr-corpus-'));
  const archive = `file:${join(dir, 'archive')}`;
  const addresses = recordCorpus.map((record, i) => corpusAddress(SET, record, i));
  const voidTimes: number[] = [];
  const open: { close(): unknown }[] = [];
  let wire: WireConnection;
  after(async () => {
    for (const each of open.toReversed()) await each.close();
    await fs.rm(dir, { recursive: true });
  });

  const serve = async (path: string): Promise<{ connection: WireConnection; close: () => Promise<void> }> => {
    const engine = await Engine.open({ dir: path });
    const server = await AerospikeServer.listen({ engine, port: 0, namespaces: [NAMESPACE] });
    const [{ host, port }] = server.addresses as [(typeof server.addresses)[0]];
    const connection = await WireConnection.open(host, port);
    const close = async () => {
      connection.close();
      await server.close();
      await engine.close();
    };
    return { connection, close };
  };

  before(async () => {
    const source = join(dir, 'source');
    await Engine.init(source, { archive });
    const { connection, close } = await serve(source);
    for (const [i, record] of recordCorpus.entries())
      voidTimes.push(await writeCorpusRecord(connection, addresses[i]!, record));
    // what happens later is archived, and is not in what is restored
    await sleep(5);
    const target = Date.now();
    await sleep(5);
    for (const at of addresses) await connection.call(removeOf(at));
    await connection.call(putOf(addresses[0]!, [int('later', 1)]));
    await close();
    const archiver = await Archiver.open(source);
    await archiver.archivePending();
    await archiver.close();

    const restored = join(dir, 'restored');
    await restoreEngine(restored, 'restored', {
      archive,
      target: String(target),
      workers: 0,
      ttl: 'absolute',
    });
    const endpoint = await serve(restored);
    open.push(endpoint);
    wire = endpoint.connection;
  });

  for (const [i, record] of recordCorpus.entries())
    test(record.name, () =>
      checkCorpusRecord(wire, addresses[i]!, record, { voidTime: voidTimes[i]!, generation: 1 }),
    );

  test('and nothing else does', async () => {
    assert.deepEqual((await wire.call(getOf(addresses[0]!))).ops.length, 1);
    const [line] = await wire.info(`sets/${NAMESPACE}/${SET}`);
    assert.match(line!, new RegExp(`^objects=${recordCorpus.filter((r) => r.inSet).length}:`));
  });
});
