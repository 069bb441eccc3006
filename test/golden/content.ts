/** What the golden files hold. Never edit: a change of format gets new files and a new version beside these. */
import type { LogClock, LogEvent, LogVersion } from '../../engine/commit-log.ts';
import type { ArchiveEvent } from '../../wal/event.ts';
import type { Row } from '../wal/segment-support.ts';

const DIGEST_A = '00112233445566778899aabbccddeeff01234567';
const DIGEST_B = 'f0e1d2c3b4a5968778695a4b3c2d1e0f99887766';

const common = {
  epoch: 1,
  stream: 'main',
  generation: 1,
  voidTime: 0,
  batchMore: false,
  extension: undefined,
};

/** In the order of the file. */
export const GOLDEN_ROWS: readonly Row[] = [
  { ...common, namespace: 'bar', set: '', digest: DIGEST_B, ts: 1700000000003, lsn: 4, image: undefined },
  {
    ...common,
    namespace: 'bar',
    set: '',
    digest: DIGEST_B,
    ts: 1700000000002,
    lsn: 3,
    generation: 65535,
    voidTime: 4294967295,
    image: '0001017003054f736c6f21',
  },
  {
    ...common,
    namespace: 'test',
    set: 'çà',
    digest: DIGEST_A,
    ts: 1700000000009,
    lsn: 8589934592,
    epoch: 2,
    image: 'ff',
    extension: {
      lut: 1700000000000,
      startMs: 1699999999000,
      endMs: 1700000000009,
      missed: 3,
      missedAfterMs: 1699999998765,
    },
  },
  {
    ...common,
    namespace: 'test',
    set: 'cities',
    digest: DIGEST_B,
    ts: 1700000000001,
    lsn: 2,
    image: '5a*300000',
    batchMore: true,
  },
];

export const GOLDEN_EVENTS: readonly ArchiveEvent[] = [
  { kind: 'mark', stream: 'main', epoch: 1, lsn: 5, ts: 1700000000004, name: 'before-import' },
  {
    kind: 'truncate',
    stream: 'main',
    epoch: 1,
    lsn: 6,
    ts: 1700000000005,
    namespace: 'test',
    set: 'cities',
    cutoffLut: 1700000000005,
    partitions: '0-4095',
  },
  {
    kind: 'clock',
    stream: 'main',
    epoch: 1,
    lsn: 6,
    ts: 1700000000008,
    digests: [{ sum: '0123456789abcdef0123456789abcdef', records: 2 }],
  },
];

/** Frames of the log file, in order: a batch of two, one version, two that were found, events, then clock and seal. */
export const GOLDEN_LOG_BATCHES: readonly (readonly LogVersion[])[] = [
  [
    {
      lsn: 1,
      ts: 1700000000001,
      namespace: 'test',
      set: 'cities',
      digest: Buffer.from(DIGEST_A, 'hex'),
      generation: 1,
      voidTime: 0,
      image: Buffer.from('0001017003054f736c6f21', 'hex'),
      batchMore: true,
    },
    {
      lsn: 2,
      ts: 1700000000001,
      namespace: 'bar',
      set: '',
      digest: Buffer.from(DIGEST_B, 'hex'),
      generation: 0,
      voidTime: 0,
      image: undefined,
      batchMore: false,
    },
  ],
  [
    {
      lsn: 3,
      ts: 1700000000002,
      namespace: 'test',
      set: 'çà',
      digest: Buffer.from(DIGEST_B, 'hex'),
      generation: 65535,
      voidTime: 4294967295,
      image: Buffer.alloc(0),
      batchMore: false,
    },
  ],
  [
    {
      lsn: 4,
      ts: 1700000000009,
      namespace: 'test',
      set: 'cities',
      digest: Buffer.from(DIGEST_A, 'hex'),
      generation: 9,
      voidTime: 0,
      image: Buffer.from('0001017003054f736c6f21', 'hex'),
      batchMore: true,
      seen: {
        lutMs: 1700000000000,
        windowStartMs: 1700000000000,
        windowEndMs: 1700000000007,
        missed: 3,
        missedAfterMs: 1699999998765,
        late: true,
      },
    },
    {
      lsn: 5,
      ts: 1700000000009,
      namespace: 'test',
      set: '',
      digest: Buffer.from(DIGEST_B, 'hex'),
      generation: 0,
      voidTime: 0,
      image: undefined,
      batchMore: false,
      seen: {
        lutMs: 1700000000009,
        windowStartMs: 1699999999000,
        windowEndMs: 1700000000009,
        missed: 4294967295,
        missedAfterMs: 0,
        late: false,
      },
    },
  ],
];
export const GOLDEN_LOG_EVENTS: readonly LogEvent[] = [
  { kind: 'mark', lsn: 6, ts: 1700000000003, name: 'before-import' },
  {
    kind: 'definition',
    lsn: 7,
    ts: 1700000000010,
    what: 'sindex',
    namespace: 'test',
    name: 'by-age',
    body: Buffer.from('01020304ff', 'hex'),
  },
  {
    kind: 'definition',
    lsn: 8,
    ts: 1700000000010,
    what: 'udf',
    namespace: null,
    name: 'sum.lua',
    body: null,
  },
  {
    kind: 'truncate',
    lsn: 9,
    ts: 1700000000011,
    namespace: 'test',
    set: null,
    cutoffLut: 1700000000008,
    partitions: '0-4095',
    windowStartMs: 1700000000008,
    windowEndMs: 1700000000011,
  },
];
export const GOLDEN_LOG_CLOCK: LogClock = {
  ts: 1700000000004,
  lsn: 9,
  epoch: 1,
  digests: [{ sum: '0123456789abcdef0123456789abcdef', records: 1 }],
};
