/** Gaps, verification and a status that is watched, as somebody types them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { anchorIfNeeded } from '../../snapshot/anchor.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { CREDENTIALS } from '../s3/provider.ts';
import { assertNarrow, errorOf, jsonOf, outcomeOf, runPitr, startPitr } from './run-pitr.ts';

const cwd = mkdtempSync(join(tmpdir(), 'pitr-gaps-'));
after(() => rmSync(cwd, { recursive: true }));
const run = (...args: string[]) => runPitr(args, { cwd });
const json = (...args: string[]) => jsonOf(args, { cwd });
/** Its limits are those of a test: what it was not archived for some minutes is well here. */
const status = async (...args: string[]) => {
  const { code, stdout } = await run('status', 'data', '--max-lag', '1h', '--json', ...args);
  const said = JSON.parse(stdout);
  assert.equal(said.green, code === 0);
  return { code, said, codes: said.problems.map((p: { code: string }) => p.code) };
};
let lost: { lsnStart: number; lsnEnd: number };

before(async () => {
  const dir = join(cwd, 'data');
  await Engine.init(dir, { archive: `file:${join(cwd, 'backup')}` });
  const spool = { policy: 'drop-with-gap', quotaBytes: 6000 } as const;
  const engine = await Engine.open({ dir, sealMs: 0, spool });
  const archiver = await Archiver.open(dir);
  const write = async (n: number): Promise<void> => {
    for (let i = 0; i < n; i++) {
      await engine.put({ namespace: 'test', set: 's', key: i }, { pad: 'x'.repeat(200) });
      if (i % 4 === 3) await engine.sealApplied();
    }
  };
  await write(8);
  await archiver.archivePending();
  await write(60);
  await archiver.archivePending();
  lost = archiver.head.gaps[0];
  await anchorIfNeeded(archiver);
  await engine.sealApplied();
  await archiver.archivePending();
  await archiver.close();
  await engine.close();
});

test('a gap is listed with range and cause, keeps status from being green, and is acknowledged with a reason', async () => {
  const listed = await run('gaps', 'data');
  assert.equal(listed.code, 7);
  assertNarrow(listed.stdout);
  const name = `main/${lost.lsnStart}`;
  assert.match(
    listed.stdout,
    new RegExp(`^${name} +${lost.lsnEnd - lost.lsnStart} .*dropped by quota +not`, 'm'),
  );
  assert.deepEqual((await status()).codes, ['gap']);

  await errorOf(['gaps', 'ack', name, 'data'], { cwd }, 'usage', 2);
  const before = `main/${lost.lsnStart - 1}`;
  await errorOf(['gaps', 'ack', before, 'data', '--reason', 'x'], { cwd }, 'gap-unknown', 25);
  const args = ['data', '--reason', 'load test', '--by', 'ops'];
  await json('gaps', 'ack', 'all', ...args);
  assert.equal((await json('gaps', 'unack', name, 'data')).removed.length, 1);
  const { acknowledged } = await json('gaps', 'ack', `main/${lost.lsnEnd - 1}`, ...args);
  assert.deepEqual([acknowledged.length, acknowledged[0].lsnStart], [1, lost.lsnStart]);
  const all = await json('gaps', '--archive', 'file:backup');
  assert.equal(all.notAcknowledged, 0);
  const [hole] = all.holes;
  assert.deepEqual(
    [hole.stream, hole.lsnStart, hole.lsnEnd, hole.positions, hole.cause],
    ['main', lost.lsnStart, lost.lsnEnd, lost.lsnEnd - lost.lsnStart, 'dropped by quota'],
  );
  assert.deepEqual([hole.acknowledged.by, hole.acknowledged.reason], ['ops', 'load test']);
  assert.equal(Date.parse(hole.after), hole.afterTs);
  assert.ok(hole.anchored.fromTs > hole.untilTs && hole.anchored.by !== 'start');
  const text = await run('status', 'data', '--max-lag', '1h', '--window', '7d');
  assert.equal(text.code, 0, text.stdout);
  assert.match(text.stdout, /^Holes: +1 \(1 acknowledged\)/m);
  assert.match(text.stdout, /^Last verify: +never$/m);
  assert.match(text.stdout, /^Window: .*\n +wanted 7 d, which it grows to$/m);
  assertNarrow(text.stdout.replaceAll(cwd, ''));
});

test('a verification that finds damage keeps status from being green until a later one is good', async () => {
  // what is in the way of the result's folder: it cannot be written
  writeFileSync(join(cwd, 'backup', 'verify'), '');
  const { code, stdout, stderr } = await run('verify', 'data');
  assert.equal(code, 0, stdout);
  assert.match(stderr, /could not be kept/);
  rmSync(join(cwd, 'backup', 'verify'));

  const folder = join(cwd, 'backup', 'segments');
  const name = readdirSync(folder, { recursive: true, encoding: 'utf8' }).find((f) => f.endsWith('.seg'));
  const path = join(folder, name ?? '');
  const bytes = readFileSync(path);
  const flipped = Buffer.from(bytes);
  flipped[flipped.length >> 1] ^= 1;
  writeFileSync(path, flipped);
  const damaged = await run('verify', 'data', '--json');
  assert.deepEqual([damaged.code, JSON.parse(damaged.stdout).recorded], [43, true]);
  const red = await status();
  assert.deepEqual([red.code, red.codes], [7, ['verify-failed']]);
  assert.deepEqual([red.said.lastVerify.ok, red.said.lastGoodVerify], [false, null]);
  assert.match((await run('status', 'data')).stdout, /^Last verify: +(now|.* ago), FAILED/m);

  writeFileSync(path, bytes);
  assert.equal((await run('verify', 'data')).code, 0);
  const { said, codes } = await status();
  assert.deepEqual(codes, []);
  assert.deepEqual([said.lastVerify.states.equal, said.lastVerify.harmless], [1, { gap: 1 }]);
  assert.deepEqual(said.lastGoodVerify, said.lastVerify);
});

test('status --watch goes on while the archive is away, and Ctrl-C does not wait for one that does not answer', async (t) => {
  const { promise: askedAgain, resolve } = Promise.withResolvers<void>();
  let asked = 0;
  const server = createServer((_, response) => {
    if (asked++ > 0) resolve();
    else response.writeHead(404).end('<Error><Code>NoSuchKey</Code><Message>no</Message></Error>');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const url = `s3://bucket/a?endpoint=http://127.0.0.1:${port}`;
  const child = startPitr(['status', '--archive', url, '--watch', '--json'], { cwd, env: CREDENTIALS });
  t.after(() => {
    child.kill('SIGKILL');
    server.closeAllConnections();
    server.close();
  });
  const outcome = outcomeOf(child);
  await askedAgain;
  child.kill('SIGINT');
  const { code, stdout } = await outcome;
  const [first, ...others] = stdout.trimEnd().split('\n');
  assert.deepEqual([code, others], [7, []]);
  const { archive, problems } = JSON.parse(first ?? '');
  assert.deepEqual([archive.isReachable, problems[0].code], [false, 'archive-away']);
});
