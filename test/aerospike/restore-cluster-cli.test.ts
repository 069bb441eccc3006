/** The command that restores into a cluster: what it prints, its exit codes, and that it goes on after a kill. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { assertNarrow, errorOf, jsonOf, outcomeOf, runPitr, startPitr } from '../cli/run-pitr.ts';
import { freshSet, REAL, until } from './client-support.ts';
import { Source, Target } from './restore-support.ts';
import { addressOf, putOf } from './subject.ts';
import { TcpProxy } from './tcp-proxy.ts';
import { digestOf, field, int, str, u64, utf8 } from './wire-bytes.ts';

const RECORDS = 3000;

describe('pitr restore --into aerospike://', () => {
  let source: Source;
  let target: Target;
  const SET = freshSet();
  const digest = (n: number): Buffer => digestOf(SET, 1, u64(n));

  before(async () => {
    source = await Source.open();
    target = await Target.open();
    for (let at = 0; at < RECORDS; at += 1000)
      await source.engine.batch(
        Array.from({ length: 1000 }, (_, i) => ({
          op: 'put' as const,
          key: { namespace: 'test', set: SET, key: at + i },
          bins: { n: at + i, v: `value ${at + i}` },
        })),
      );
    await source.archived();
  });
  after(async () => {
    await target.wire.info(`truncate:namespace=test;set=${SET}`);
    await target.close();
    source.close();
  });

  const options = () => ({ cwd: source.dir });
  const args = (url = target.url, ...more: string[]) => [
    ...['restore', '--archive', source.archive, '--to', 'latest', '--set', SET, '--into', url],
    ...more,
  ];

  test('a dry run says what would be done, in 80 columns, and does nothing', async () => {
    const { code, stdout } = await runPitr(args(target.url, '--dry-run', '--mode', 'exact'), options());
    assert.equal(code, 0);
    assertNarrow(stdout);
    assert.match(stdout, new RegExp(`test/${SET}`));
    assert.match(stdout, /Community server forgets deletions/);
    assert.equal((await target.state(SET)).size, 0);
    assert.ok(!existsSync(join(source.dir, '.pitr-restore')));
  });

  test('a restore that is killed goes on where it was, and is the same', async (t) => {
    const proxy = await TcpProxy.open({ host: target.host, port: target.port });
    t.after(() => proxy.close());
    // slow, so that there is a middle
    const url = `aerospike://127.0.0.1:${proxy.port}`;
    const slow = args(url, '--workers', '2', '--records-per-second', '3000', '--json');
    const child = startPitr(slow, options());
    const folder = join(source.dir, '.pitr-restore');
    const progress = (): { ranges: number; isFinished: boolean } | undefined => {
      const [name] = existsSync(folder) ? readdirSync(folder) : [];
      const path = join(folder, `${name}`, 'restore.json');
      return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).progress : undefined;
    };
    await until(() => (progress()?.ranges ?? 0) > 0 || child.exitCode !== null);
    child.kill('SIGKILL');
    await outcomeOf(child);
    const { ranges } = progress() as { ranges: number };
    const there = (await target.state(SET)).size;
    assert.ok(there > 0 && there < RECORDS, `${there} records were there`);
    const report = await jsonOf(args(url, '--workers', '2'), options());
    assert.deepEqual(
      [report.resumed, report.written, report.verification.target],
      [ranges, RECORDS, 'equal'],
    );
    const state = await target.state(SET);
    assert.equal(state.size, RECORDS);
    for (let n = 0; n < RECORDS; n++)
      assert.ok(state.get(digest(n).toString('hex'))?.endsWith(utf8(`value ${n}`).toString('hex')));
    assert.ok(!existsSync(folder) || readdirSync(folder).length === 0);
  });

  test('what has records already is refused with 34, and says how to go on', async () => {
    const { hint } = await errorOf(args(), options(), 'target-occupied', 34);
    assert.match(hint, /--mode exact .* --mode add/);
  });

  test('any loss is exit code 90 and a file (C1)', async () => {
    // a record of the same digest without a set: a server refuses to change its set
    const n = 42;
    await target.wire.info(`truncate:namespace=test;set=${SET}`);
    const bare = addressOf(digest(n), SET);
    await target.wire.call(
      putOf({ ...bare, fields: bare.fields.filter((_, i) => i !== 1) }, [int('n', 1), str('v', 'x')], {
        fields: [field(2, Buffer.concat([Uint8Array.of(1), u64(n)]))],
      }),
    );
    const refused = ['--mode', 'add', '--refused', 'lost.jsonl'];
    const { code, stdout } = await runPitr(args(target.url, ...refused), options());
    assert.equal(code, 90);
    assertNarrow(stdout.replaceAll(source.dir, ''));
    assert.match(stdout, /^Restored in part: /);
    assert.match(stdout, /2,999 written/);
    assert.match(stdout, /Refused: +1: 1 parameter/);
    const [line, ...rest] = readFileSync(join(source.dir, 'lost.jsonl'), 'utf8').trimEnd().split('\n');
    assert.deepEqual(rest, []);
    assert.equal(JSON.parse(`${line}`).digest, digest(n).toString('hex'));
  });

  test('a run that ends in the middle says that the target is restored in part', { skip: REAL }, async () => {
    Object.assign(target.own!.faults, { burstCode: 8, burst: 1 });
    const { code, stderr } = await runPitr(args(target.url, '--mode', 'add'), options());
    assert.notEqual(code, 0);
    assert.match(
      stderr,
      /note: the target may be restored in part: 0 of \d+ ranges? are\s+done; the same\s+command goes on/,
    );
  });

  test('flags of a cluster are for a cluster', async () => {
    const { message } = await errorOf(args('engine:x', '--mode', 'exact'), options(), 'usage', 2);
    assert.match(message, /--mode is for a restore into a cluster/);
  });
});
