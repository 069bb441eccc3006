/** A real agent takes what a cluster ships by XDR; the cluster's side is a script, no Enterprise server was at hand. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../bench/free-port.ts';
import { SourceNode } from '../capture/xdr-source.ts';
import { remove, Shipper, write } from '../capture/xdr-support.ts';
import { jsonOf, outcomeOf, runPitr, startPitr } from './run-pitr.ts';

const PATIENCE_MS = 60_000;

test('what is shipped is acknowledged, archived and restorable to an instant once the source proves it', async (t) => {
  const cwd = mkdtempSync(join(tmpdir(), 'pitr-xdr-'));
  const run = { cwd };
  t.after(() => rmSync(cwd, { recursive: true }));
  const until = async <T>(what: string, look: () => Promise<T | undefined>): Promise<T> => {
    for (const end = Date.now() + PATIENCE_MS; ; await sleep(100)) {
      const found = await look().catch(() => undefined);
      if (found !== undefined) return found;
      assert.ok(Date.now() < end, what);
    }
  };
  const node = await SourceNode.open(t, 'A1');
  const clock = setInterval(() => {
    node.state.nowMs = Date.now();
  }, 20);
  t.after(() => clearInterval(clock));
  node.state.nowMs = Date.now();
  const port = await freePort();
  const source = ['--source', `xdr://127.0.0.1:${port}`, '--namespace', 'test', '--archive', 'file:archive'];
  const info = ['--source-info', `aerospike://127.0.0.1:${node.peer.port}`, '--xdr-dc', 'pitr'];
  const agent = startPitr(['agent', ...source, ...info, 'shipped'], run);
  t.after(() => agent.kill('SIGKILL'));
  const outcome = outcomeOf(agent);
  const shipper = await until('the listener', () => Shipper.open(port));
  t.after(() => shipper.close());
  const lutMs = Date.now();
  assert.deepEqual(await shipper.ship(write({ record: 1, lutMs }), write({ record: 2, lutMs })), [0, 0]);
  const begun = await until('the first proof', async () => {
    const { contiguousEnd } = await jsonOf(['status', 'shipped'], run);
    return contiguousEnd !== null && contiguousEnd > lutMs ? (contiguousEnd as number) : undefined;
  });
  const deletedMs = Math.max(Date.now(), begun + 1);
  assert.deepEqual(await shipper.ship(remove({ record: 1, lutMs: deletedMs })), [0]);
  await until('the delete', async () => {
    const { contiguousEnd } = await jsonOf(['status', 'shipped'], run);
    return contiguousEnd !== null && contiguousEnd >= deletedMs ? true : undefined;
  });
  const recordsAt = async (to: number): Promise<number> => {
    const { stdout, stderr, code } = await runPitr(
      ['restore', 'shipped', '--to', String(to), '--json-lines'],
      run,
    );
    assert.equal(code, 0, stderr);
    return stdout.split('\n').filter(Boolean).length;
  };
  assert.equal(await recordsAt(deletedMs - 1), 2, 'before the delete, to the ms');
  assert.equal(await recordsAt(deletedMs), 1);
  const refused = await runPitr(['mark', 'm', 'shipped'], run);
  assert.notEqual(refused.code, 0, 'a mark is nothing that a source proves');
  const { streams } = await jsonOf(['status', 'shipped'], run);
  assert.equal(streams[0].local.source.kind, 'xdr');
  assert.equal(streams[0].local.source.totals.versions, 3);
  agent.kill('SIGTERM');
  const { code, stderr } = await outcome;
  assert.equal(code, 0, stderr);
});
