/** A reader that was written from docs/archive.md alone finds in an archive what was written, at every instant. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { digestOf } from '../../engine/partition.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { Rng } from '../model/rng.ts';
import { readOnce, readSegment, readSwapped, type StrangeSegment, type StrangeVersion } from './stranger.ts';

const T0 = 1_760_000_000_000;
const KEYS = 40;
const STEPS = 400;

/** What was done: the judge's own list. `undefined`: deleted. */
interface Done {
  readonly ts: number;
  readonly id: string;
  readonly value: string | undefined;
}

const root = mkdtempSync(join(tmpdir(), 'pitr-stranger-'));
const archiveDir = join(root, 'archive');
const done: Done[] = [];
const truncations: { ts: number; set: string }[] = [];
let synthetic: { id: string; endTs: number };

const setOf = (n: number): string => (n % 3 === 0 ? '' : `set-${n % 3}`);
const keyOf = (n: number) => ({ namespace: n % 5 === 0 ? 'bar' : 'test', set: setOf(n), key: `key-${n}` });
const idOf = (n: number): string => {
  const { namespace, set, key } = keyOf(n);
  return `${namespace}/${digestOf(set, 3, Buffer.from(key)).toString('hex')}`;
};

before(async () => {
  let nowMs = T0;
  const clock = { nowMs: () => nowMs };
  const rng = new Rng(8);
  const dir = join(root, 'engine');
  await Engine.init(dir, { archive: `file:${archiveDir}`, clock });
  const archiver = await Archiver.open(dir, { clock, fanout: 3 });
  for (let from = 0; from < STEPS; from += STEPS / 10) {
    const engine = await Engine.open({ dir, sealMs: 0, clock });
    for (let i = from; i < from + STEPS / 10; i++) {
      nowMs += rng.int(1, 9);
      const n = rng.int(0, KEYS - 1);
      if (i === STEPS / 2) {
        const { ts } = await engine.truncate({ namespace: 'test', set: 'set-1' });
        truncations.push({ ts, set: 'set-1' });
        nowMs = ts;
      } else if (rng.chance(0.2)) {
        const found = await engine.get(keyOf(n));
        await engine.delete(keyOf(n));
        if (found) done.push({ ts: nowMs, id: idOf(n), value: undefined });
      } else {
        const value = `value ${i}`;
        await engine.put(keyOf(n), { value, i }, { mode: 'replace' });
        done.push({ ts: nowMs, id: idOf(n), value });
      }
    }
    nowMs += 1;
    await engine.close();
    await archiver.round();
    if (from === STEPS * 0.6)
      synthetic = await createSnapshot(archiver.archive, { kind: 'synthetic', workers: 0 });
  }
  await archiver.close();
});

after(() => rmSync(root, { recursive: true }));

interface Named {
  readonly name: string;
}
interface Timeline {
  readonly id: string;
  readonly streams: readonly Named[];
}
interface Head {
  readonly frontier: { readonly lsn: number };
  readonly runs: readonly { readonly level: number; readonly segments: readonly Named[] }[];
}

const theTimeline = (): Timeline => {
  const { timelines } = readSwapped<{ timelines: Timeline[] }>(archiveDir, 'timelines', 'timelines');
  assert.equal(timelines.length, 1);
  return timelines[0];
};

const theHead = (): Head => {
  const { id, streams } = theTimeline();
  return readSwapped(archiveDir, `heads/${id}/${streams[0].name}`, 'head');
};

const segmentsOf = (head: Head): StrangeSegment[] =>
  head.runs.flatMap((run) => run.segments.map(({ name }) => readSegment(archiveDir, name)));

const textOf = (v: StrangeVersion): string | undefined => v.bins.get('value')?.bytes.toString('utf8');
const idOfVersion = (v: StrangeVersion): string => `${v.namespace}/${v.digest}`;

describe('an archive, read by a stranger', () => {
  test('every LSN of the stream is there once, each version as it was written', () => {
    const head = theHead();
    assert.ok(
      head.runs.some(({ level }) => level > 0) && head.runs.some(({ level }) => level === 0),
      'merged runs and log runs',
    );
    const segments = segmentsOf(head);
    const versions = segments.flatMap((s) => s.versions).sort((a, b) => a.lsn - b.lsn);
    const others = segments.flatMap((s) => s.events).filter(({ kind }) => kind !== 'clock');
    assert.deepEqual(
      [...versions, ...others].map(({ lsn }) => lsn).sort((a, b) => a - b),
      Array.from({ length: head.frontier.lsn }, (_, i) => i + 1),
    );
    assert.deepEqual(
      versions.map((v) => ({ ts: v.ts, id: idOfVersion(v), value: v.isDelete ? undefined : textOf(v) })),
      done,
    );
    assert.deepEqual(
      others.map(({ kind, namespace, set, ts }) => ({ kind, namespace, set, ts })),
      truncations.map(({ ts, set }) => ({ kind: 'truncate', namespace: 'test', set, ts })),
    );
  });

  test('the state at every instant follows from the versions as the page says', () => {
    const versions = segmentsOf(theHead()).flatMap((s) => s.versions);
    const events = segmentsOf(theHead()).flatMap((s) => s.events);
    const instants = new Set([...done, ...truncations].flatMap(({ ts }) => [ts - 1, ts]));
    for (const at of instants) {
      const newest = new Map<string, StrangeVersion>();
      for (const v of versions.filter(({ ts }) => ts <= at)) {
        const known = newest.get(idOfVersion(v));
        if (!known || v.ts > known.ts || (v.ts === known.ts && v.lsn > known.lsn))
          newest.set(idOfVersion(v), v);
      }
      const state = new Map<string, string | undefined>();
      for (const [id, v] of newest) {
        const isHidden = events.some(
          (e) =>
            e.kind === 'truncate' &&
            e.ts <= at &&
            v.ts < e.ts &&
            v.ts < e.cutoffLut &&
            e.namespace === v.namespace &&
            (e.set === null || e.set === v.set),
        );
        if (!v.isDelete && !isHidden) state.set(id, textOf(v));
      }
      assert.deepEqual(new Map([...state].sort()), new Map([...mapAt(at)].sort()), `at ${at}`);
    }
  });

  test("a snapshot's own segments are the state at its end", () => {
    const { snapshots } = readSwapped<{ snapshots: (Named & { id: string })[] }>(
      archiveDir,
      'snapshots',
      'snapshots',
    );
    const { name } = snapshots.find(({ id }) => id === synthetic.id) as Named;
    const manifest = readOnce<{ endTs: number; segments: Named[] }>(archiveDir, name, 'snapshot');
    const rows = manifest.segments.flatMap((s) => readSegment(archiveDir, s.name).versions);
    assert.ok(rows.length > 0);
    assert.deepEqual(
      new Map(rows.map((v) => [idOfVersion(v), textOf(v)] as const).sort()),
      new Map([...mapAt(manifest.endTs)].sort()),
    );
  });
});

/** The plain map at an instant. */
const mapAt = (at: number): Map<string, string> => {
  const map = new Map<string, string>();
  const truncated = new Set(
    Array.from({ length: KEYS }, (_, n) => n)
      .filter((n) => setOf(n) === 'set-1' && keyOf(n).namespace === 'test')
      .map(idOf),
  );
  const steps = [...done, ...truncations].sort((a, b) => a.ts - b.ts);
  for (const step of steps.filter(({ ts }) => ts <= at)) {
    if ('set' in step) for (const id of truncated) map.delete(id);
    else if (step.value === undefined) map.delete(step.id);
    else map.set(step.id, step.value);
  }
  return map;
};
