/** A real agent that lets files wait for each other: few objects for many files, and at once when somebody asks. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openObjectStore } from '../../engine/open-object-store.ts';
import { Engine } from '../../wal/engine.ts';
import { headOf } from '../wal/archiver-support.ts';
import { assertNarrow, jsonOf, outcomeOf, runPitr, startPitr } from './run-pitr.ts';

const PATIENCE_MS = 60_000;
const cwd = mkdtempSync(join(tmpdir(), 'pitr-seal-'));
const run = { cwd };
const dir = join(cwd, 'data');
const store = openObjectStore(`file:${join(cwd, 'archive')}`);
const running: { kill(signal: 'SIGKILL'): unknown }[] = [];
after(() => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(cwd, { recursive: true });
});

const startAgent = (seal: string) => {
  const agent = startPitr(['agent', 'data', '--seal', seal, '--compact-fanout', '64'], run);
  running.push(agent);
  return { agent, outcome: outcomeOf(agent) };
};

const until = async (what: string, isSo: () => Promise<boolean>): Promise<void> => {
  for (const end = Date.now() + PATIENCE_MS; !(await isSo()); await sleep(100))
    assert.ok(Date.now() < end, what);
};

const archivedLsn = async (): Promise<number> =>
  (await headOf(store, dir).catch(() => undefined))?.frontier.lsn ?? 0;

test('--seal: many files are one object; a mark and a snapshot that waits do not wait for it; chain --cost tells', async () => {
  await jsonOf(['init', 'data', '--archive', 'file:archive'], run);
  const engine = await Engine.open({ dir, sealMs: 0 });
  let n = 0;
  const write = async (): Promise<void> => {
    await engine.put({ namespace: 'test', set: 's', key: n }, { n: n++ });
    await engine.seal();
  };
  const often = startAgent('3s');
  await write();
  await until('the first file', async () => (await archivedLsn()) >= 1);
  // a file every tenth of a second, until two groups have been shipped
  const from = await headOf(store, dir);
  const groups = async (): Promise<number> => (await headOf(store, dir)).runs.length - from.runs.length;
  await until('two groups', async () => {
    await write();
    return (await groups()) >= 2;
  });
  often.agent.kill('SIGTERM');
  assert.equal((await often.outcome).code, 0);
  const grouped = await headOf(store, dir);
  assert.equal(grouped.frontier.lsn, n, 'what waited is shipped at the end');
  assert.equal(grouped.sealMs, 3000);
  const files = grouped.sequence - from.sequence;
  assert.ok(files >= 3 * (await groups()), `${files} files in ${await groups()} objects`);
  const gets = (grouped.asked?.gets ?? 0) - (from.asked?.gets ?? 0);
  assert.ok(gets <= 4 * (await groups()), `${gets} reads of the archive for ${files} files in few objects`);

  const seldom = startAgent('1h');
  await write();
  await until('the first file after an idle time', async () => (await archivedLsn()) >= n);
  await write();
  await sleep(1500);
  assert.equal(await archivedLsn(), n - 1, 'it waits for its hour');
  const mark = await jsonOf(['mark', 'here', 'data'], run);
  await until('the mark', async () => (await archivedLsn()) >= mark.marks[0].lsn);
  await write();
  const made = await jsonOf(['snapshot', 'create', 'data', '--wait', '--label', 'now'], run);
  assert.equal(made.snapshot.records, n);
  seldom.agent.kill('SIGTERM');
  const { code, stderr } = await seldom.outcome;
  assert.equal(code, 0, stderr);
  await engine.close();

  const cost = await jsonOf(['chain', 'data', '--cost', '--price-put', '10', '--price-get', '0'], run);
  const { asked, sealMs } = await headOf(store, dir);
  assert.equal(sealMs, 3_600_000);
  assert.deepEqual([cost.prices.put, cost.streams[0].sealMs], [10, sealMs]);
  assert.ok(asked && asked.puts > 0);
  assert.ok(Math.abs(cost.perMonth.puts - cost.perDay.puts * 30 * 0.01) < 1e-6);
  const text = await runPitr(['chain', 'data', '--cost'], run);
  assert.equal(text.code, 0, text.stderr);
  assertNarrow(text.stdout.replaceAll(cwd, ''));
  assert.match(text.stdout, /SEAL +LOST AT MOST/);
});
