/**
 * Every decoder of pitr:
 *
 *   log-frames, log-header        the local log, checksums and chain made right again
 *   segment-*                     header, block, events, index, filter, properties of a segment (segment-target.ts)
 *   stored, envelope              block container and binary envelope as bytes
 *   document-*                    archive, timelines, head, snapshots, snapshot: body under a right checksum, and what uses it
 *   image, cdt, particle, json    a record's image; lists and maps; any particle through JSON; JSON to a particle
 *   state, records, record-file   a store value; records on their way into a store, in memory and as a file
 *   identity, archived            engine.json, archived.json
 *   door                          lines to a live engine (door-target.ts)
 *   definitions                   indexes and UDFs of an endpoint (wire-targets.ts)
 *   wire-*                        Aerospike's protocol: a stream in chunks, messages, info, security (wire-targets.ts)
 *   cdt-*, expression             its lists, maps and expressions (container-targets.ts)
 *   partitions, target, duration, address, config   text that a person writes; config holds cron patterns, too
 *
 * restoring.json is compared as a whole and never decoded.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { loadConfig } from '../../cli/config.ts';
import { parseDuration } from '../../cli/duration.ts';
import { parseRecordAddress } from '../../cli/record-address.ts';
import { decodeCdt, encodeCdt } from '../../engine/cdt.ts';
import { PitrError } from '../../engine/errors.ts';
import { decodeIdentity, encodeIdentity, newIdentity } from '../../engine/identity.ts';
import { decodeImage, encodeImage } from '../../engine/image.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { entriesOfChunk, readRecordFile } from '../../engine/record-file.ts';
import { encodeState, state } from '../../engine/state-record.ts';
import { fromJson, fromParticle, type JsonValue, toJson } from '../../engine/value.ts';
import { parseTarget } from '../../restore/target.ts';
import { readArchived, writeArchived } from '../../wal/archived.ts';
import { decodeStored, encodeStored } from '../../wal/block.ts';
import { decodeEnvelope, encodeEnvelope, unpackBytes } from '../../wal/envelope.ts';
import { decodeLogHeader, scanLogFile } from '../../wal/log-file.ts';
import { FRAME_HEADER_BYTES, frameSeed, LOG_MAGIC, LOG_VERSION } from '../../wal/log-format.ts';
import { canonicalParticles, particleCorpus } from '../engine/particle-corpus.ts';
import { batch, clock, ENGINE, mark, openLog, version } from '../wal/log-support.ts';
import { logPath, MemoryFiles } from '../wal/memory-files.ts';
import { containerTargets } from './container-targets.ts';
import { documentTargets } from './document-targets.ts';
import { doorTarget } from './door-target.ts';
import type { Target } from './fuzz.ts';
import { segmentTargets } from './segment-target.ts';
import { wireTargets } from './wire-targets.ts';

const text = (value: string): Buffer => Buffer.from(value);
const json = {
  parse: (input: Buffer): unknown => JSON.parse(input.toString()),
  print: (tree: unknown): Buffer => text(JSON.stringify(tree) ?? 'null'),
};

const logFile = async (): Promise<Buffer> => {
  const files = new MemoryFiles();
  const { log } = await openLog(files);
  log.append(batch(1, 3));
  log.appendEvent(mark(4));
  log.appendEvent({
    kind: 'truncate',
    lsn: 5,
    ts: 1_700_000_000_005,
    namespace: 'test',
    set: null,
    cutoffLut: 1_700_000_000_000,
    partitions: 'all',
  });
  const seen = { lutMs: 9, windowStartMs: 9, windowEndMs: 10, missed: 2, missedAfterMs: 7, late: true };
  log.append([version(6, { seen }), version(7, { seen, image: undefined })]);
  log.appendEvent({
    kind: 'definition',
    lsn: 8,
    ts: 1_700_000_000_005,
    what: 'udf',
    namespace: null,
    name: 'a.lua',
    body: Buffer.from('x'),
  });
  await log.seal(clock(8));
  return files.bytesOf(logPath(1, 'wal'));
};
const LOG = await logFile();
const LOG_HEADER_BYTES = 20 + LOG.readUInt32LE(12);

/** Makes every checksum of a log file right, as far as frames can be told. */
const resealLog = (file: Buffer): Buffer => {
  if (file.length < 20) return file;
  const headerBytes = Math.min(20 + file.readUInt32LE(12), file.length);
  file.writeUInt32LE(headerBytes - 20, 12);
  file.writeUInt32LE(crc32(file.subarray(20, headerBytes), crc32(file.subarray(0, 16))), 16);
  let seed = frameSeed(ENGINE);
  let chain = 0;
  try {
    const { body } = decodeLogHeader(file, 'x');
    seed = frameSeed(body.engine);
    chain = body.chain;
  } catch {
    return file;
  }
  for (let at = headerBytes; at + FRAME_HEADER_BYTES < file.length; ) {
    file.write('PFRM', at, 'latin1');
    const left = file.length - at - FRAME_HEADER_BYTES;
    const bytes = Math.max(1, Math.min(file.readUInt32LE(at + 4), left));
    file.writeUInt32LE(bytes, at + 4);
    file.writeUInt32LE(chain, at + 8);
    const end = at + FRAME_HEADER_BYTES + bytes;
    chain = crc32(file.subarray(at + 16, end), crc32(file.subarray(at, at + 12), seed));
    file.writeUInt32LE(chain, at + 12);
    at = end;
  }
  return file;
};

const scan = (file: Buffer): void => {
  for (const tornAllowed of [false, true]) {
    let entries = 0;
    const content = scanLogFile(file, 'x', tornAllowed, (e) => {
      entries++;
      const { lsn, ts } = e.kind === 'version' ? e.version : e.kind === 'event' ? e.event : e.clock;
      assert.ok(Number.isSafeInteger(lsn) && Number.isSafeInteger(ts));
      if (e.kind === 'version') assert.equal(e.version.digest.length, 20);
    });
    assert.ok(content.goodBytes + content.tornBytes === file.length && entries <= file.length);
  }
};

const LOG_REFUSALS = ['log-corrupt', 'object-corrupt', 'format-version'] as const;

const imageOf = (...picks: number[]): Buffer =>
  encodeImage({
    key: { type: 1, bytes: Buffer.alloc(8, 1) },
    bins: new Map(picks.map((i) => [`b${i}`, canonicalParticles[i]])),
  });

const IDENTITY = newIdentity({ stream: 'main', archive: { url: 'file:/x', id: 'a'.repeat(32) } }, 1);
const RESTORED = newIdentity(
  { fork: { timeline: '0'.repeat(16), ts: 5, positions: { main: 7 }, ttl: { mode: 'shift', seconds: 3 } } },
  1,
);

const record = (key: string, value: string): Buffer => {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(key.length, 0);
  head.writeUInt32LE(value.length, 4);
  return Buffer.concat([head, text(key), text(value)]);
};
const RECORDS = Buffer.concat([record('key', 'value'), record('another', ''), record('', 'x'.repeat(100))]);

const SCRATCH = mkdtempSync(join(tmpdir(), 'pitr-fuzz-'));
process.on('exit', () => rmSync(SCRATCH, { recursive: true, force: true }));

/** A small particle of the corpus: type byte, then its bytes. */
const particles = particleCorpus
  .filter((p) => p.bytes.length < 300)
  .map((p) => Buffer.concat([Buffer.of(p.type), p.bytes]));

/** What `accepts` takes, printed and parsed again, is the same. */
const textTarget = <T>(
  name: string,
  refusals: Target['refusals'],
  seeds: readonly string[],
  parse: (text: string) => T,
  print?: (value: T) => string,
): Target => ({
  name,
  refusals,
  seeds: seeds.map(text),
  run: (input) => {
    const value = parse(input.toString('utf8'));
    if (print) assert.deepEqual(parse(print(value)), value);
  },
});

export const TARGETS: readonly Target[] = [
  {
    name: 'log-frames',
    seeds: [LOG],
    refusals: LOG_REFUSALS,
    run: (input) =>
      scan(resealLog(Buffer.concat([LOG.subarray(0, LOG_HEADER_BYTES), input.subarray(LOG_HEADER_BYTES)]))),
  },
  {
    name: 'log-header',
    seeds: [LOG.subarray(20, LOG_HEADER_BYTES)],
    refusals: LOG_REFUSALS,
    tree: {
      parse: (input) => unpackBytes(input, 'x'),
      print: (tree) => encodeEnvelope(LOG_MAGIC, LOG_VERSION, tree).subarray(20),
    },
    run: (input) => {
      const prologue = Buffer.from(LOG.subarray(0, 20));
      prologue.writeUInt32LE(input.length, 12);
      scan(resealLog(Buffer.concat([prologue, input, LOG.subarray(LOG_HEADER_BYTES)])));
    },
  },
  {
    name: 'log-bytes',
    seeds: [LOG],
    refusals: LOG_REFUSALS,
    run: (input) => scan(input),
  },
  ...segmentTargets,
  {
    name: 'stored',
    seeds: [encodeStored(text('x'.repeat(1000)))],
    refusals: ['object-corrupt'],
    run: (input) => {
      // the checksum of the stored bytes is right, the rest is as it comes
      if (input.length >= 16) {
        input.writeUInt32LE(input.length - 16, 0);
        input.writeUInt32LE(crc32(input.subarray(16)), 8);
      }
      const raw = decodeStored(input, 'x');
      assert.deepEqual(Buffer.from(decodeStored(encodeStored(raw), 'x')), Buffer.from(raw));
    },
  },
  {
    name: 'envelope',
    seeds: [encodeEnvelope('PITRTEST', 1, { a: [1, 'x', null, Buffer.of(1)], b: { c: -1.5 } })],
    refusals: ['object-corrupt', 'format-version'],
    run: (input) => {
      if (input.length >= 20) {
        input.writeUInt32LE(input.length - 20, 12);
        input.writeUInt32LE(crc32(input.subarray(20), crc32(input.subarray(0, 16))), 16);
      }
      const { body } = decodeEnvelope(input, 'PITRTEST', 1, 'x');
      // as bytes: msgpack has no -0
      const again = encodeEnvelope('PITRTEST', 1, body);
      assert.deepEqual(encodeEnvelope('PITRTEST', 1, decodeEnvelope(again, 'PITRTEST', 1, 'x').body), again);
    },
  },
  ...documentTargets,
  {
    name: 'image',
    seeds: [imageOf(0, 10, 20), imageOf(30), encodeImage({ key: undefined, bins: new Map() })],
    refusals: ['bad-record'],
    run: (input) => {
      const image = decodeImage(input);
      assert.deepEqual(decodeImage(encodeImage(image)), image);
    },
  },
  {
    name: 'cdt',
    seeds: particles
      .filter((p) => p[0] === 19 || p[0] === 20)
      .slice(0, 60)
      .map((p) => p.subarray(1))
      .filter(isCdt),
    refusals: ['bad-record'],
    run: (input) => {
      const value = decodeCdt(input);
      const canonical = encodeCdt(value);
      assert.deepEqual(encodeCdt(decodeCdt(canonical)), canonical);
    },
  },
  {
    name: 'particle',
    seeds: particles,
    refusals: [],
    run: (input) => {
      const particle = { type: input[0] ?? 0, bytes: new Uint8Array(input.subarray(1)) };
      fromParticle(particle);
      const again = fromJson(JSON.parse(JSON.stringify(toJson(particle))));
      assert.equal(again.type, particle.type);
      assert.deepEqual(Buffer.from(again.bytes), Buffer.from(particle.bytes));
    },
  },
  {
    name: 'json',
    seeds: particles.map((p) => text(JSON.stringify(toJson({ type: p[0], bytes: p.subarray(1) })))),
    refusals: ['bad-record', 'usage'],
    tree: json,
    run: (input) => {
      let value: JsonValue;
      try {
        value = JSON.parse(input.toString());
      } catch {
        throw new PitrError('usage', { what: 'not JSON' });
      }
      const particle = fromJson(value);
      const again = fromJson(toJson(particle));
      assert.equal(again.type, particle.type);
      assert.deepEqual(Buffer.from(again.bytes), Buffer.from(particle.bytes));
    },
  },
  {
    name: 'state',
    seeds: [encodeState({ generation: 1, voidTime: 2, ts: 3, lsn: 4, lut: 5 }, 'set', imageOf(1, 2))],
    refusals: ['store-corrupt'],
    run: (input) => {
      state.check(input, 'x');
      const { generation, voidTime, ts, lsn, lut } = state.header(input);
      const set = state.set(input);
      if (Buffer.from(set).equals(input.subarray(25, 25 + input[24])))
        assert.deepEqual(encodeState({ generation, voidTime, ts, lsn, lut }, set, state.image(input)), input);
    },
  },
  {
    name: 'records',
    seeds: [RECORDS],
    refusals: ['object-corrupt'],
    run: (input) => {
      let bytes = 0;
      for (const { key, value } of entriesOfChunk(input)) bytes += 8 + key.length + value.length;
      assert.equal(bytes, input.length);
    },
  },
  {
    name: 'record-file',
    seeds: [Buffer.concat([Buffer.alloc(8), RECORDS, Buffer.alloc(8)])],
    refusals: ['object-corrupt'],
    run: async (input) => {
      // one chunk with a right checksum, whatever follows
      const bytes = Math.min(RECORDS.length, Math.max(0, input.length - 8));
      if (bytes > 0) {
        input.writeUInt32LE(bytes, 0);
        input.writeUInt32LE(crc32(input.subarray(8, 8 + bytes)), 4);
      }
      const path = join(SCRATCH, 'records');
      writeFileSync(path, input);
      for await (const _ of readRecordFile(path)) assert.ok(true);
    },
  },
  {
    name: 'identity',
    seeds: [IDENTITY, RESTORED].map((i) => text(encodeIdentity(i))),
    refusals: ['not-an-engine', 'format-version'],
    tree: {
      parse: json.parse,
      print: (tree) => {
        if (typeof tree !== 'object' || tree === null) return json.print(tree);
        const { crc32: _, ...identity } = tree as typeof IDENTITY & { crc32?: string };
        return text(encodeIdentity(identity));
      },
    },
    run: (input) => {
      const identity = decodeIdentity(input.toString(), 'x');
      assert.deepEqual(decodeIdentity(encodeIdentity(identity), 'x'), identity);
    },
  },
  {
    name: 'archived',
    seeds: [await archived(5, 2)],
    refusals: [],
    run: async (input) => {
      const found = await readArchived('/e', new MemoryFiles(new Map([['/e/archived.json', input]])));
      // a checksum of 32 bits under text that must be printed the same: anything else that passes is wrong data
      assert.ok(found.lsn === 0 || input.equals(await archived(found.lsn, found.sequence)));
      assert.ok(found.lsn === 0 || (found.lsn === 5 && found.sequence === 2));
    },
  },
  doorTarget,
  ...wireTargets,
  ...containerTargets,
  textTarget(
    'partitions',
    ['usage'],
    ['all', 'none', '0-1365,4000', '7', '1,2,3'],
    PartitionSet.parse,
    String,
  ),
  textTarget(
    'target',
    ['target-invalid'],
    [
      'latest',
      '2026-11-21T10:00:00Z',
      '2026-11-21T10:00:00.5+01:00',
      '1700000000000',
      '-1h30m',
      'lsn:main/5',
      'mark:m',
    ],
    (t) => {
      const target = parseTarget(t);
      for (const n of Object.values(target)) assert.ok(typeof n !== 'number' || Number.isSafeInteger(n));
      if (target.kind === 'time') new Date(target.ts).toISOString();
      return target;
    },
  ),
  textTarget('duration', ['usage'], ['1h30m', '500ms', '7d'], parseDuration, (ms) => `${ms}ms`),
  textTarget(
    'address',
    ['usage'],
    ['a/b/c', 'a//1', 'a/b/hex:00ff', 'a/b/int:-5', `a/b/digest:${'0'.repeat(40)}`],
    parseRecordAddress,
  ),
  textTarget(
    'config',
    ['config-invalid'],
    [
      'archive: file:/x\ndirs: [a, b]\nseal: 500ms\nworkers: 2\n',
      'snapshot:\n  cron: "0 3 * * 1-5"\n  kind: full\nlog:\n  level: debug\n',
      'compact:\n  fanout: 4\nttl: never\nwaitSeconds: 5\n',
      'snapshot:\n  cron: "*/5 1,2 L * MON#2"\n',
    ],
    (t) => {
      writeFileSync(join(SCRATCH, 'pitr.yaml'), t);
      return loadConfig({ cwd: SCRATCH, env: {}, flags: {} });
    },
  ),
];

async function archived(lsn: number, sequence: number): Promise<Buffer> {
  const files = new MemoryFiles();
  await writeArchived('/e', { lsn, sequence }, files);
  return files.bytesOf('/e/archived.json');
}

/** Seeds must be accepted. */
function isCdt(bytes: Buffer): boolean {
  try {
    encodeCdt(decodeCdt(bytes));
    return true;
  } catch {
    return false;
  }
}
