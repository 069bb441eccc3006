/** When a status is green: every row is what an archive may be like, and why it is not green then. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type ArchiveFacts, archiveProblems, type Problem } from '../../cli/verdict.ts';
import type { Hole } from '../../snapshot/holes.ts';
import type { VerifyResult } from '../../wal/verify-results.ts';

const NOW = 1_795_000_000_000;
const HOUR = 3_600_000;

const gap = { lsnStart: 11, lsnEnd: 21, afterTs: NOW - 9 * HOUR, untilTs: NOW - 8 * HOUR, cause: 'lost' };
const again = { fromTs: NOW - 7 * HOUR, anchor: 'base-1' };
const said = { by: 'ops@host', reason: 'known', atMs: NOW - HOUR };
const acknowledged = { timeline: 't', stream: 'a', lsnStart: 11, lsnEnd: 21, cause: 'lost', ...said };
const hole: Hole = {
  timeline: 't',
  stream: 'a',
  gap,
  afterTs: gap.afterTs,
  untilTs: gap.untilTs,
  cause: 'lost',
  again,
  acknowledged,
};
const verified: VerifyResult = {
  atMs: NOW - HOUR,
  durationMs: 10,
  ok: true,
  version: '0.1.0',
  segments: 1,
  bytes: 1,
  versions: 1,
  snapshots: 0,
  states: { equal: 1, differs: 0, notChecked: 0 },
  anomalies: {},
  harmless: {},
};
const owner = (stream: string, lagMs: number | null, ownsForMs = 10 * HOUR, maxLagMs = 10_000) => ({
  stream,
  frontierTs: lagMs === null ? null : NOW - lagMs,
  ownsSinceTs: NOW - ownsForMs,
  maxLagMs,
});

/** Two streams that keep up, a window since ten hours, no hole. */
const WELL: ArchiveFacts = {
  nowMs: NOW,
  contiguousEnd: NOW - 1400,
  limitedBy: 'a',
  owners: [owner('a', 1400), owner('b', 300)],
  holes: [],
  window: { fromTs: NOW - 10 * HOUR, toTs: NOW - 1400, wantedMs: null, isShort: false },
  lastVerify: null,
};
const short = { fromTs: again.fromTs, toTs: NOW, wantedMs: 24 * HOUR, isShort: true };

const ROWS: readonly (readonly [what: string, facts: Partial<ArchiveFacts>, codes: readonly string[]])[] = [
  ['all is well, and nobody has verified anything yet', {}, []],
  ['the frontier is as old as it may be', { owners: [owner('a', 10_000)], contiguousEnd: NOW - 10_000 }, []],
  [
    'every frontier stands still',
    { owners: [owner('a', 10_001), owner('b', 11_000)], contiguousEnd: NOW - 11_000 },
    ['lag a', 'lag b'],
  ],
  [
    'each stream has a bound of its own: one ships by the minute',
    { owners: [owner('a', 90_000, HOUR, 180_000), owner('b', 11_000)], contiguousEnd: NOW - 90_000 },
    ['lag b'],
  ],
  ['one of two frontiers stands still', { owners: [owner('a', HOUR), owner('b', 300)] }, ['lag a']],
  [
    'a stream that owns partitions has archived nothing yet, and has just joined',
    { owners: [owner('a', 300), owner('b', null, 2000)] },
    [],
  ],
  [
    'a stream that owns partitions has never archived anything',
    { owners: [owner('a', 300), owner('b', null)] },
    ['lag b'],
  ],
  [
    'frontiers move, and what is restorable does not',
    { contiguousEnd: NOW - HOUR, owners: [owner('a', 300)] },
    ['lag -'],
  ],
  [
    'nothing is restorable yet',
    { contiguousEnd: null, window: null, owners: [owner('a', null)] },
    ['nothing-restorable'],
  ],
  [
    'nothing is restorable, and one of the frontiers stands still',
    { contiguousEnd: null, window: null, owners: [owner('a', null), owner('b', HOUR)] },
    ['nothing-restorable', 'lag b'],
  ],
  [
    'nobody owns anything any more, and the end moves no further',
    { owners: [], contiguousEnd: NOW - HOUR },
    ['lag -'],
  ],
  ['our clock is a little behind', { owners: [owner('a', -1000)], contiguousEnd: NOW + 1000 }, []],
  [
    'our clock is behind: how old the frontier is cannot be told',
    { owners: [owner('a', -1001), owner('b', -5000)], contiguousEnd: NOW + 1001 },
    ['clock-skew a', 'clock-skew b'],
  ],
  ['a gap that somebody knows of is behind us', { holes: [hole] }, []],
  ['a gap that nobody acknowledged', { holes: [{ ...hole, acknowledged: null }] }, ['gap a']],
  ['one of two gaps is acknowledged', { holes: [hole, { ...hole, acknowledged: null }] }, ['gap a']],
  [
    'a gap that nothing restorable follows, acknowledged or not',
    {
      holes: [
        { ...hole, again: null },
        { ...hole, again: null, acknowledged: null },
      ],
    },
    ['gap a', 'gap a'],
  ],
  [
    'a hole that comes from no gap',
    { holes: [{ ...hole, stream: null, gap: null, acknowledged: null }] },
    ['hole'],
  ],
  [
    'the wanted window is there',
    { window: { fromTs: NOW - 24 * HOUR, toTs: NOW, wantedMs: 24 * HOUR, isShort: false } },
    [],
  ],
  ['the window is shorter than wanted', { window: short }, ['window']],
  ['it is short because of an acknowledged gap', { window: short, holes: [hole] }, []],
  [
    'it is short because of two gaps, one of them not acknowledged',
    { window: short, holes: [hole, { ...hole, acknowledged: null }] },
    ['gap a', 'window'],
  ],
  [
    'an acknowledged gap of long ago does not explain it',
    { window: short, holes: [{ ...hole, again: { fromTs: NOW - 20 * HOUR, anchor: 'x' } }] },
    ['window'],
  ],
  ['the last verification was good', { lastVerify: verified }, []],
  [
    'the last verification was not',
    { lastVerify: { ...verified, ok: false, anomalies: { corrupt: 1 } } },
    ['verify-failed'],
  ],
];

const named = (p: Problem): string =>
  p.code === 'lag' ? `lag ${p.stream ?? '-'}` : 'stream' in p ? `${p.code} ${p.stream}` : p.code;

describe('R3: the verdict', () => {
  for (const [what, facts, codes] of ROWS)
    test(what, () => assert.deepEqual(archiveProblems({ ...WELL, ...facts }).map(named), codes));
});
