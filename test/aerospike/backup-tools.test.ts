/**
 * asbackup and asrestore, the tools that operators have: what they take out of the endpoint and put back. They come from
 * PATH, and the tests are skipped where they are missing.
 */
import { strict as assert } from 'node:assert';
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { type CorpusRecord, recordCorpus } from '../engine/record-corpus.ts';
import { checkCorpusRecord, corpusAddress, writeCorpusRecord } from './corpus-on-the-wire.ts';
import { NAMESPACE, OTHER_NAMESPACE, type RecordAddress, Subject } from './subject.ts';
import { field, utf8 } from './wire-bytes.ts';

const run = promisify(execFile);

const onPath = async (name: string): Promise<boolean> => {
  for (const dir of (process.env.PATH ?? '').split(delimiter))
    if (
      await fs.access(join(dir, name), fs.constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return true;
  return false;
};
const missing = [];
for (const name of ['asbackup', 'asrestore']) if (!(await onPath(name))) missing.push(name);
const skip = missing.length > 0 && `not on PATH: ${missing.join(', ')}`;

/** What the tools themselves do not carry, whatever the server: asbackup ends at a vector, and writes any NaN as the same text. */
const LOST = ['vector', 'all particles in one', 'float NaN with payload', 'float signalling NaN'];

describe('asbackup and asrestore', { skip }, async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  const dir = await fs.mkdtemp(join(tmpdir(), 'pitr-tools-'));
  const server = ['--host', subject.host, '--port', String(subject.port)];
  after(async () => {
    await wire.info(`truncate:namespace=${OTHER_NAMESPACE};set=${subject.set}`);
    await subject.close();
    await fs.rm(dir, { recursive: true });
  });
  const carried: readonly CorpusRecord[] = recordCorpus.filter((r) => r.inSet && !LOST.includes(r.name));
  const addresses = carried.map((record, i) => corpusAddress(subject.set, record, i));
  const voidTimes: number[] = [];
  const elsewhere = (at: RecordAddress): RecordAddress => ({
    ...at,
    fields: [field(0, utf8(OTHER_NAMESPACE)), ...at.fields.slice(1)],
  });
  let backupSaid = '';
  let restoreSaid = '';

  before(async () => {
    for (const [i, record] of carried.entries())
      voidTimes.push(await writeCorpusRecord(wire, addresses[i]!, record));
    const backup = await run('asbackup', [
      ...server,
      '-n',
      NAMESPACE,
      '-s',
      subject.set,
      '-d',
      join(dir, 'backup'),
    ]);
    backupSaid = backup.stderr;
    const restore = await run('asrestore', [
      ...server,
      '-n',
      `${NAMESPACE},${OTHER_NAMESPACE}`,
      '-d',
      join(dir, 'backup'),
    ]);
    restoreSaid = restore.stderr;
  });

  test('the backup has every record', () => {
    assert.match(
      backupSaid,
      new RegExp(`Backed up ${carried.length} record\\(s\\), 0 secondary index\\(es\\), \\d+ UDF`),
    );
  });

  test('the restore puts every record', () => {
    assert.match(restoreSaid, new RegExp(`inserted ${carried.length}: failed 0`));
  });

  for (const [i, record] of carried.entries())
    test(`${record.name} is restored`, async () => {
      await checkCorpusRecord(wire, elsewhere(addresses[i]!), record, {
        voidTime: voidTimes[i]!,
        generation: 1,
      });
    });
});
