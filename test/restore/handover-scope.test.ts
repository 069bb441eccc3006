/** Partitions do not go to a capture that would not look at all that was captured: what it leaves out would stay as it was. */
import { strict as assert } from 'node:assert';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ContentDigest } from '../../engine/content-digest.ts';
import { isPitrError } from '../../engine/errors.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { handoverDirs, takeOverLost } from '../../restore/handover.ts';
import { emptyCopy, publishCopy } from '../../snapshot/source-copy.ts';
import type { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { initCapture } from '../../wal/capture/capture-dir.ts';
import { Journal } from '../../wal/capture/journal.ts';

const T0 = 1_700_000_000_000;
let root = '';
let archive: Archive;
const path = (name: string): string => join(root, name);

const init = (
  name: string,
  partitions: PartitionSet,
  namespaces: readonly string[],
  sets: readonly string[] | null = null,
) =>
  initCapture(
    path(name),
    { kind: 'aerospike', url: 'aerospike://127.0.0.1:1', namespaces, sets },
    { archive: `file:${path('archive')}`, stream: name, partitions },
  );

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'pitr-scope-'));
  await init('a', PartitionSet.all, ['one', 'two']);
  const journal = await Journal.open(path('a'));
  const archiver = await Archiver.open(path('a'), { adopt: false });
  archive = archiver.archive;
  const copy = await emptyCopy(archive, journal, T0);
  await journal.loaded(new ContentDigest(journal.identity.shards), T0);
  // its LUT is of the past: nothing of it is in the copy
  const record = { namespace: 'two', set: 's', generation: 1, voidTimeS: 0, lut: T0 + 1, foundMs: T0 + 1 };
  const image = Buffer.from('000101760108000000000000002a', 'hex');
  journal.found({ ...record, digest: Buffer.alloc(20, 7), image });
  await journal.state(T0 + 2);
  await publishCopy(archive, journal, copy, T0 + 2, async () => void (await archiver.archivePending()));
  await archiver.close();
  await journal.close();
});
after(() => rm(root, { recursive: true }));

const ownerOf = async (): Promise<string[]> => {
  const { ownership } = await archive.timeline();
  return ownership.filter((o) => o.toTs === null).map((o) => o.stream);
};

const refusedBy = async (moving: Promise<unknown>, what: RegExp): Promise<void> => {
  await assert.rejects(moving, (error) => isPitrError(error, 'usage') && what.test(error.message));
  assert.deepEqual(await ownerOf(), ['a']);
};

test('a hand-over to a capture of fewer namespaces, or of fewer sets, is refused before anything moves', async () => {
  await init('fewer', PartitionSet.none, ['one']);
  await init('sets', PartitionSet.none, ['one', 'two'], ['s']);
  const options = { partitions: PartitionSet.parse('0-9'), archive };
  await refusedBy(handoverDirs(path('a'), path('fewer'), options), /does not capture namespace two/);
  await refusedBy(handoverDirs(path('a'), path('sets'), options), /does not capture all sets/);
});

test('so is one of a lost directory, by what the archive has', async () => {
  await init('lost-fewer', PartitionSet.none, ['one']);
  await init('lost-sets', PartitionSet.none, ['one', 'two'], ['other']);
  await refusedBy(takeOverLost(archive, 'a', path('lost-fewer')), /does not capture namespace two/);
  await refusedBy(takeOverLost(archive, 'a', path('lost-sets')), /does not capture set "s" of namespace two/);
  // where all is captured the next step is the new owner's, whose agent does not run
  await init('enough', PartitionSet.none, ['one', 'two', 'three'], ['s']);
  await assert.rejects(takeOverLost(archive, 'a', path('enough')), (error) => !isPitrError(error, 'usage'));
  assert.deepEqual(await ownerOf(), ['enough']);
});
