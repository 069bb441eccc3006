import type { LogEntry } from '../engine/commit-log.ts';
import { PitrError } from '../engine/errors.ts';
import { decodeEnvelope } from './envelope.ts';
import {
  decodeFrame,
  FRAME,
  frameAt,
  frameCrcOf,
  frameSeed,
  LOG_MAGIC,
  LOG_VERSION,
  type LogFileHeader,
  syncedPast,
} from './log-format.ts';
import { assertShape, logHeaderSchema } from './schema.ts';

/** `000000000012.wal` is sealed and never changes; `000000000013.open` is being written. */
export interface LogFileName {
  readonly sequence: number;
  readonly sealed: boolean;
  readonly name: string;
}

export const logFileName = (sequence: number, sealed: boolean): string =>
  `${String(sequence).padStart(12, '0')}.${sealed ? 'wal' : 'open'}`;

/** The log files among directory entries, in order. Other names are left alone. */
export const logFilesIn = (names: readonly string[]): LogFileName[] =>
  names
    .flatMap((name) => {
      const m = /^(\d{12})\.(wal|open)$/.exec(name);
      return m ? [{ sequence: Number(m[1]), sealed: m[2] === 'wal', name }] : [];
    })
    .sort((a, b) => a.sequence - b.sequence);

export const decodeLogHeader = (bytes: Buffer, path: string): { body: LogFileHeader; bytes: number } => {
  try {
    const header = decodeEnvelope<LogFileHeader>(bytes, LOG_MAGIC, LOG_VERSION, path);
    assertShape(logHeaderSchema, header.body, path);
    return header;
  } catch (error) {
    if (error instanceof PitrError && error.id === 'object-corrupt')
      throw new PitrError('log-corrupt', { path, offset: 0, why: String(error.facts.why) }, { cause: error });
    throw error;
  }
};

export interface LogFileContent {
  readonly header: LogFileHeader;
  /** Bytes up to the end of the last good frame. */
  readonly goodBytes: number;
  /** Bytes after it: an unfinished write. Zeros at the very end do not count, they were written ahead. */
  readonly tornBytes: number;
  /** A seal frame ends the file. */
  readonly sealed: boolean;
  /** crc with which the chain goes on. */
  readonly chain: number;
  readonly lsnNext: number;
}

/** Takes the payload of a commits frame as a whole; its LSNs must go on from `lsnNext`. Returns the LSN after them. */
export type TakeCommits = (payload: Buffer, lsnNext: number, bad: (why: string) => PitrError) => number;

/**
 * Reads one log file and calls `entry` for everything in it, in order, checking the chain and that LSNs are dense.
 * With `commits`, versions go there, frame by frame, instead of one by one. An unfinished end, and zeros that were written ahead, are
 * accepted only when `tornAllowed`.
 * @throws log-corrupt with byte and newest good LSN, format-version
 */
export const scanLogFile = (
  bytes: Buffer,
  path: string,
  tornAllowed: boolean,
  entry: (e: LogEntry) => void,
  commits?: TakeCommits,
): LogFileContent => {
  const { body: header, bytes: headerBytes } = decodeLogHeader(bytes, path);
  let at = headerBytes;
  const seed = frameSeed(header.engine);
  let chain = header.chain;
  let lsnNext = header.lsnFirst;
  let sealed = false;
  const bad = (why: string): PitrError =>
    new PitrError('log-corrupt', { path, offset: at, why, lsn: lsnNext - 1, evidence: `${path}.broken` });
  const checked = (e: LogEntry): void => {
    if (e.kind !== 'clock') {
      const lsn = e.kind === 'version' ? e.version.lsn : e.event.lsn;
      if (lsn !== lsnNext) throw bad(`LSN ${lsn} where ${lsnNext} is due`);
      lsnNext++;
    }
    entry(e);
  };
  while (at < bytes.length) {
    const frame = frameAt(bytes, at, chain, seed);
    if ('why' in frame) {
      if (tornAllowed && endOfContent(bytes, at) === at) break;
      if (
        !tornAllowed ||
        sealed ||
        syncedPast(bytes, at, seed, () => bad('its end cannot be told from corruption'))
      )
        throw bad(frame.why);
      break;
    }
    if (sealed) throw bad('bytes after the seal');
    if (commits && frame.type === FRAME.commits) lsnNext = commits(frame.payload, lsnNext, bad);
    else decodeFrame(frame, checked, bad);
    chain = frameCrcOf(bytes, at);
    sealed = frame.type === FRAME.seal;
    at += frame.bytes;
  }
  if (!tornAllowed && !sealed) throw bad('the seal is missing');
  return { header, goodBytes: at, tornBytes: endOfContent(bytes, at) - at, sealed, chain, lsnNext };
};

/** Where the zeros begin with which a file ends: not below `from`. */
const endOfContent = (bytes: Buffer, from: number): number => {
  let end = bytes.length;
  while (end > from && bytes[end - 1] === 0) end--;
  return end;
};
