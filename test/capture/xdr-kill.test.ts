import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { newCaptureDir, openJournal, readVersions, remove, Shipper, T0, write } from './xdr-support.ts';

const ROUNDS = Number(process.env.PITR_XDR_KILLS ?? 2);
const CONNECTIONS = 3;
const RECORDS = 200;

const startListener = async (dir: string): Promise<{ child: ChildProcess; port: number }> => {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'xdr-listener-process.ts'), dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const [line] = await Promise.race([
    once(lines, 'line'),
    once(child, 'exit').then(() => {
      throw new Error('the listener ended');
    }),
  ]);
  return { child, port: Number(line) };
};

test('S2, X1: what was acknowledged before a kill -9 is in the log after it, and sent again it logs nothing', async (t) => {
  const dir = await newCaptureDir(t);
  let change = 0;
  const generations = new Map<number, number>();
  /** The next change of a record of this connection, and what the log must have of it. */
  const next = (connection: number): { frame: Buffer; id: string } => {
    const n = ++change;
    const record = (n % RECORDS) * CONNECTIONS + connection;
    const lutMs = T0 + 1000 + n;
    const generation = generations.get(record) ?? 0;
    const isDelete = n % 11 === 0 && generation > 0;
    generations.set(record, isDelete ? 0 : generation + 1);
    return {
      frame: isDelete ? remove({ record, lutMs }) : write({ record, lutMs, generation: generation + 1 }),
      id: `${record}@${lutMs}`,
    };
  };
  const acknowledged: { frame: Buffer; id: string }[] = [];
  let unanswered: { frame: Buffer; id: string }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const { child, port } = await startListener(dir);
    try {
      const shippers = await Promise.all(Array.from({ length: CONNECTIONS }, () => Shipper.open(port)));
      // what had no answer is sent again first, as the source does it, in its order; on one connection
      const again = unanswered;
      unanswered = [];
      assert.deepEqual(
        await shippers[0].ship(...again.map((c) => c.frame)),
        again.map(() => 0),
      );
      acknowledged.push(...again);
      let isKilled = false;
      let count = 0;
      const ship = async (shipper: Shipper, connection: number): Promise<void> => {
        while (!isKilled) {
          const changes = Array.from({ length: 20 }, () => next(connection));
          shipper.send(...changes.map((c) => c.frame));
          const codes = await shipper.codes(changes.length);
          assert.ok(codes.every((c) => c === 0));
          acknowledged.push(...changes.slice(0, codes.length));
          unanswered.push(...changes.slice(codes.length));
          count += codes.length;
          if (count > 700 * (round + 1) && !isKilled) {
            isKilled = true;
            child.kill('SIGKILL');
          }
          if (shipper.isClosed) return;
        }
      };
      await Promise.all(shippers.map(ship));
      for (const shipper of shippers) shipper.close();
    } finally {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    }
    const logged = new Set(
      (await readVersions(dir)).map((v) => `${Buffer.from(v.digest).readUInt32LE(4)}@${v.ts}`),
    );
    const lost = acknowledged.filter(({ id }) => !logged.has(id));
    assert.deepEqual(
      lost.map(({ id }) => id),
      [],
    );
  }
  // it opens, and its index is what the log says; nothing of what is sent once more is logged
  const before = (await readVersions(dir)).length;
  const { child, port } = await startListener(dir);
  try {
    const shipper = await Shipper.open(port);
    const codes = await shipper.ship(...acknowledged.map((c) => c.frame));
    assert.ok(codes.every((c) => c === 0));
    shipper.close();
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  const journal = await openJournal(dir, T0);
  await journal.close();
  assert.equal((await readVersions(dir)).length, before);
  assert.ok(before >= acknowledged.length);
});
