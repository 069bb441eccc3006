/** Bodies of control objects under a right checksum, and what everybody does with them after they were read. */
import { crc32 } from 'node:zlib';
import type { ZodType } from 'zod';
import { type SnapshotIndex, snapshotIndexSchema, snapshotSchema } from '../../snapshot/manifest.ts';
import { restorable } from '../../snapshot/ranges.ts';
import { isSameGap } from '../../wal/acknowledgements.ts';
import { type Head, namesOf } from '../../wal/catalog.ts';
import { type DocumentKind, decodeDocument, encodeDocument } from '../../wal/document.ts';
import type { MergeNote } from '../../wal/merge-note.ts';
import { ancestry, currentTimeline, ownedPartitions, ownersAt, type Timelines } from '../../wal/timeline.ts';
import { GOLDEN_EVENTS } from '../golden/content.ts';
import type { Target } from './fuzz.ts';

const ARCHIVE = 'a'.repeat(32);
const [T1, T2] = ['1'.repeat(16), '2'.repeat(16)];
const digests = [{ sum: '0'.repeat(32), records: 3 }];
const segment = {
  name: 'segments/x',
  bytes: 100,
  crc: '00ff00ff',
  rows: 3,
  tsMin: 1,
  tsMax: 9,
  partitions: { start: 0, end: 4096 },
  events: 1,
};

const timelines: Timelines = {
  archive: ARCHIVE,
  timelines: [
    {
      id: T1,
      createdMs: 1,
      parent: null,
      detached: false,
      streams: [{ name: 'main', engineId: 'e'.repeat(32) }],
      ownership: [
        { epoch: 1, stream: 'main', namespace: '*', partitions: '0-99', fromTs: 1, toTs: 5 },
        { epoch: 1, stream: 'main', namespace: '*', partitions: '100-4095', fromTs: 1, toTs: null },
        { epoch: 2, stream: 'main', namespace: '*', partitions: '0-99', fromTs: 6, toTs: null },
      ],
    },
    {
      id: T2,
      createdMs: 2,
      parent: { timeline: T1, ts: 7, positions: { main: 4 }, ttl: { mode: 'shift', seconds: 5 } },
      detached: false,
      streams: [{ name: 'main', engineId: 'f'.repeat(32) }],
      ownership: [{ epoch: 1, stream: 'main', namespace: '*', partitions: 'all', fromTs: 8, toTs: null }],
    },
  ],
};

const head: Head = {
  archive: ARCHIVE,
  timeline: T1,
  stream: 'main',
  engineId: 'e'.repeat(32),
  generation: 2,
  claim: 'c',
  frontier: { ts: 9, lsn: 8 },
  clock: { kind: 'clock', stream: 'main', epoch: 1, lsn: 8, ts: 9, digests },
  sequence: 3,
  chain: 12345,
  runs: [
    { level: 1, lsnStart: 1, lsnEnd: 4, tsMin: 1, tsMax: 4, segments: [segment] },
    { level: 0, lsnStart: 5, lsnEnd: 9, tsMin: 5, tsMax: 9, segments: [segment, segment] },
  ],
  gaps: [{ lsnStart: 4, lsnEnd: 5, afterTs: 4, untilTs: 5, cause: 'lost' }],
  marks: [{ name: 'm', lsn: 2, ts: 2 }],
  retired: [{ names: ['segments/y'], sinceMs: 1, leases: ['abc'] }],
  written: { seals: { bytes: 300, versions: 9 }, merges: { bytes: 100, versions: 3 } },
  updatedMs: 10,
};

const line = {
  id: 's1',
  label: 'l',
  timeline: T1,
  kind: 'base' as const,
  createdMs: 1,
  startTs: 1,
  endTs: 6,
  parent: null,
  records: 3,
};
const index: SnapshotIndex = {
  archive: ARCHIVE,
  snapshots: [
    { ...line, name: 'manifests/1/s1' },
    { ...line, id: 's2', label: null, kind: 'incremental', parent: 's1', endTs: 8, name: 'manifests/1/s2' },
  ],
  begun: [
    {
      id: 's3',
      kind: 'synthetic',
      timeline: T1,
      label: null,
      endTs: 8,
      createdMs: 9,
      plan: '0'.repeat(64),
      ranges: [{ start: 0, end: 4096 }],
      state: 'working',
    },
  ],
};

const note: MergeNote = {
  archive: ARCHIVE,
  generation: 2,
  claim: 'c',
  merge: {
    level: 1,
    lsnStart: 1,
    lsnEnd: 9,
    inputs: ['segments/a', 'segments/b'],
    parts: [{ ref: segment, digest: '0'.repeat(32) }],
    next: { namespace: 'ns', partition: 7 },
    writing: 'segments/z',
  },
};
const snapshot = {
  ...line,
  archive: ARCHIVE,
  coordinated: true,
  logAfterTs: 5,
  digests,
  positions: { main: 5 },
  segments: [segment],
  log: [{ stream: 'main', lsnStart: 1, lsnEnd: 5 }],
  events: GOLDEN_EVENTS.filter((e) => e.kind !== 'definition'),
};

const ranges = (all: Timelines, h: Head, snapshots: SnapshotIndex): void => {
  const heads = new Map([[T1, new Map([[h.stream, h]])]]);
  for (const { id } of all.timelines) restorable(all, id, heads, snapshots.snapshots);
};

const result = {
  atMs: 5,
  durationMs: 1,
  ok: true,
  version: '0.1.0',
  segments: 1,
  bytes: 2,
  versions: 3,
  snapshots: 0,
  states: { equal: 1, differs: 0, notChecked: 0 },
  anomalies: {},
  harmless: { gap: 1 },
};

const target = <T>(kind: DocumentKind, value: T, use: (value: T) => void, schema?: ZodType): Target => ({
  name: `document-${kind}`,
  seeds: [Buffer.from(JSON.stringify(value))],
  refusals: ['object-corrupt', 'timeline-unknown'],
  tree: {
    parse: (input) => JSON.parse(input.toString()),
    print: (tree) => Buffer.from(JSON.stringify(tree)),
  },
  run: (input) => {
    // the header line with the right length and checksum for these bytes
    const sealed = encodeDocument(kind, 'BODY').toString();
    const crc = crc32(input).toString(16).padStart(8, '0');
    const headerLine = JSON.stringify({
      ...JSON.parse(sealed.split('\n')[0]),
      bytes: input.length,
      crc32: crc,
    });
    use(decodeDocument<T>(kind, Buffer.concat([Buffer.from(`${headerLine}\n`), input]), 'x', schema));
  },
});

export const documentTargets: readonly Target[] = [
  target('archive', { id: ARCHIVE, createdMs: 5 }, () => undefined),
  target('timelines', timelines, (all) => {
    currentTimeline(all);
    for (const t of all.timelines) {
      ownedPartitions(t);
      ownersAt(t, 5);
      ancestry(all, t.id);
    }
    ranges(all, head, index);
  }),
  target('head', head, (h) => {
    namesOf(h);
    ranges(timelines, h, index);
  }),
  target('merge', note, () => undefined),
  target(
    'leases',
    {
      archive: ARCHIVE,
      leases: [{ id: 'l', purpose: 'restore', ttlMs: 5, beats: 1, begunMs: 1, renewedMs: 2 }],
    },
    () => undefined,
  ),
  target(
    'acknowledgements',
    {
      archive: ARCHIVE,
      gaps: [
        {
          timeline: '1',
          stream: 'main',
          lsnStart: 3,
          lsnEnd: 5,
          cause: 'lost',
          by: 'me@host',
          reason: 'x',
          atMs: 5,
        },
      ],
    },
    ({ gaps }) => {
      for (const gap of gaps) isSameGap(gap, gap);
    },
  ),
  target('verify-results', { archive: ARCHIVE, newestGood: result, history: [result] }, () => undefined),
  target('snapshots', index, (found) => ranges(timelines, head, found), snapshotIndexSchema),
  target('snapshot', snapshot, () => undefined, snapshotSchema),
];
