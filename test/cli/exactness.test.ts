/** What the command line says of records that are not certain (S7), in processes of its own. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { FoundHistory, T0 } from '../restore/found-history.ts';
import { assertNarrow, errorOf, jsonOf, runPitr } from './run-pitr.ts';

const iso = (ts: number): string => new Date(ts).toISOString();

test('S7: restore counts, lists and, with --strict, refuses what is not certain; get says it of one record', async () => {
  const history = await FoundHistory.open();
  try {
    const exact = (lutMs: number) => ({
      lutMs,
      windowStartMs: lutMs,
      windowEndMs: lutMs,
      missed: 0,
      missedAfterMs: 0,
    });
    history.find({ key: 'a', set: 's', value: 1, voidTime: 0, seen: exact(T0 + 1) });
    history.find({ key: 'a', set: 's', value: 2, voidTime: 0, seen: { ...exact(T0 + 9), missed: 3 } });
    const gone = { ...exact(T0 + 8), windowStartMs: T0 + 5 };
    history.find({ key: 'b', set: 's', value: undefined, voidTime: 0, seen: gone });
    await history.seal(T0 + 10);
    await history.ship();
    const { dir, url } = history;
    const at = { cwd: dir };
    const restore = ['restore', '--archive', url, '--to', iso(T0 + 7)];

    const plan = await jsonOf([...restore, '--dry-run'], at);
    assert.equal(plan.exact, null);
    const dry = await runPitr([...restore, '--dry-run'], at);
    assert.match(dry.stdout, /Exact: +known only after the merge/);
    assertNarrow(dry.stdout);

    const error = await errorOf(
      [...restore, '--into', 'out', '--strict', '--inexact', 'list'],
      at,
      'inexact',
      35,
    );
    assert.deepEqual([error.facts.records, error.facts.missed, error.facts.windows], [2, 1, 1]);
    const lines = (await readFile(join(dir, 'list'), 'utf8'))
      .trimEnd()
      .split('\n')
      .map((l) => JSON.parse(l));
    lines.sort((a, b) => ('key' in b ? 1 : 0) - ('key' in a ? 1 : 0));
    assert.deepEqual(
      lines.map(({ digest, ...line }) => {
        assert.match(digest, /^[0-9a-f]{40}$/);
        return line;
      }),
      [
        {
          namespace: 'test',
          set: 's',
          key: 'a',
          reasons: [{ by: 'next', at: iso(T0 + 9), missed: 3 }],
        },
        {
          namespace: 'test',
          set: 's',
          reasons: [{ by: 'next', at: iso(T0 + 8), window: { after: iso(T0 + 5), until: iso(T0 + 8) } }],
        },
      ],
    );

    const text = await runPitr([...restore, '--into', 'out'], at);
    assert.equal(text.code, 0, text.stderr);
    assert.match(text.stdout, /Inexact: +2 records may not be/);
    assertNarrow(text.stdout);
    const report = await jsonOf([...restore, '--into', 'again', '--inexact', 'list'], at);
    assert.deepEqual(report.inexact, { records: 2, missed: 1, windows: 1 });
    // of an instant at which all is certain the list is empty, and not the one of before
    const latest = ['restore', '--archive', url, '--to', 'latest', '--strict', '--inexact', 'list'];
    assert.equal((await jsonOf([...latest, '--into', 'third'], at)).inexact.records, 0);
    assert.equal(await readFile(join(dir, 'list'), 'utf8'), '');

    const get = ['get', 'test/s/a', '--archive', url, '--at'];
    const found = await jsonOf([...get, iso(T0 + 7)], at);
    assert.deepEqual(found.source.inexact, [{ by: 'next', at: iso(T0 + 9), missed: 3 }]);
    assert.match(
      (await runPitr([...get, iso(T0 + 7)], at)).stdout,
      /not\s+certain:\s+3\s+unseen\s+versions\s+before/,
    );
    assert.equal((await jsonOf([...get, iso(T0 + 9)], at)).source.inexact, undefined);
    const absent = await errorOf(
      ['get', 'test/s/b', '--archive', url, '--at', iso(T0 + 7)],
      at,
      'record-not-found',
      4,
    );
    assert.match(absent.message, /not certain: the next version came after .* and by /);
  } finally {
    await history.close();
  }
});
