import { join } from 'node:path';
import type {
  CommitLog,
  LogClock,
  LogEntry,
  LogEvent,
  LogRecovery,
  LogVersion,
  SealedFile,
} from '../engine/commit-log.ts';
import { isPitrError, PitrError } from '../engine/errors.ts';
import { type Files, nodeFiles, removeIfThere, type SyncedFile } from '../engine/files.ts';
import { LOG_DIR } from '../engine/identity.ts';
import { encodeEnvelope, packBytes } from './envelope.ts';
import { decodeLogHeader, logFileName, logFilesIn, scanLogFile } from './log-file.ts';
import {
  FRAME,
  FrameBuffer,
  frameSeed,
  framesAfter,
  LOG_MAGIC,
  LOG_VERSION,
  type LogFileHeader,
} from './log-format.ts';
import { assertNotSpilled } from './spill-dir.ts';
import { WritePace } from './write-pace.ts';

export interface LocalLogOptions {
  /** The engine's directory; files are in `log/` below it. */
  readonly dir: string;
  readonly engineId: string;
  readonly stream: string;
  readonly timeline: string;
  readonly afterLsn: number;
  readonly epoch: number;
  readonly replay: (entry: LogEntry) => void;
  readonly files?: Files;
}

interface ActiveFile {
  readonly file: SyncedFile;
  readonly path: string;
  readonly sequence: number;
  /** Bytes written so far. */
  bytes: number;
  /** Bytes known to be durable. */
  syncedBytes: number;
}

export { LOG_DIR } from '../engine/identity.ts';

/**
 * The local write-ahead log (README.md, section "Log"). One writer, under the engine's directory lock. Calls to
 * {@link sync} and {@link seal} must not overlap; {@link append} may come at any time.
 */
export class LocalLog implements CommitLog {
  readonly #dir: string;
  readonly #files: Files;
  readonly #header: Pick<LogFileHeader, 'engine' | 'stream' | 'timeline'>;
  readonly #buffer: FrameBuffer;
  readonly #pace = new WritePace();
  #active: ActiveFile | undefined;
  #sequenceNext: number;
  #epoch: number;
  #lastLsn: number;
  #lastTs: number;
  /** Sealed files that are still here, oldest first. */
  readonly #sealed: SealedFile[];
  #sealedBytes: number;
  #lsnFirstActive = 0;
  #failure: PitrError | undefined;

  private constructor(options: LocalLogOptions, files: Files, state: Recovered) {
    this.#dir = join(options.dir, LOG_DIR);
    this.#files = files;
    this.#header = { engine: options.engineId, stream: options.stream, timeline: options.timeline };
    this.#buffer = new FrameBuffer(state.chain, frameSeed(options.engineId));
    this.#active = state.active;
    this.#sequenceNext = state.sequenceNext;
    this.#epoch = state.recovery.epoch;
    this.#lastLsn = state.recovery.lastLsn;
    this.#lastTs = state.recovery.lastTs;
    this.#sealed = state.sealed;
    this.#sealedBytes = state.sealed.reduce((n, f) => n + f.bytes, 0);
    this.#lsnFirstActive = state.lsnFirstActive;
  }

  /** Opens or creates the log, repairs a torn end, replays. @throws log-corrupt, log-foreign, log-gap, format-version, io */
  static async open(options: LocalLogOptions): Promise<{ log: LocalLog; recovery: LogRecovery }> {
    const files = options.files ?? nodeFiles;
    const state = await recoverLog(options, files).catch((cause) => {
      if (cause instanceof PitrError) throw cause;
      const { code, path } = cause as NodeJS.ErrnoException;
      throw new PitrError(
        'io',
        { op: 'recover', path: path ?? join(options.dir, LOG_DIR), why: code ?? String(cause) },
        { cause },
      );
    });
    return { log: new LocalLog(options, files, state), recovery: state.recovery };
  }

  get lastLsn(): number {
    return this.#lastLsn;
  }

  get blocks(): boolean {
    return this.#pace.blocks;
  }

  get bytes(): number {
    return this.#sealedBytes + (this.#active?.bytes ?? 0);
  }

  get sealedFiles(): readonly SealedFile[] {
    return this.#sealed;
  }

  get unsealedBytes(): number {
    return this.#active?.bytes ?? 0;
  }

  append(versions: readonly LogVersion[]): void {
    this.#check();
    if (versions.length === 0) return;
    this.#buffer.begin(FRAME.commits, this.#syncedBytes);
    for (const v of versions) {
      this.#buffer.version(v);
      if (v.ts > this.#lastTs) this.#lastTs = v.ts;
    }
    this.#buffer.end();
    this.#lastLsn = versions[versions.length - 1].lsn;
  }

  appendEvent(event: LogEvent): void {
    this.#check();
    this.#frame(FRAME.event, packBytes(event));
    this.#lastLsn = event.lsn;
    this.#lastTs = Math.max(this.#lastTs, event.ts);
    if (event.kind === 'ownership') this.#epoch = event.epoch;
  }

  appendClock(clock: LogClock): void {
    this.#check();
    this.#frame(FRAME.clock, packBytes(clock));
    this.#lastTs = Math.max(this.#lastTs, clock.ts);
  }

  async sync(): Promise<void> {
    this.#check();
    if (this.#buffer.length === 0) return;
    await this.#guard(async () => {
      const first = { ...this.#first, epoch: this.#epoch };
      const bytes = this.#buffer.take();
      const active = this.#active ?? (await this.#create(first));
      await this.#write(active.file, bytes);
      active.bytes += bytes.length;
      active.syncedBytes = active.bytes;
    });
  }

  async #write(file: SyncedFile, bytes: Uint8Array): Promise<void> {
    const start = performance.now();
    if (this.#pace.blocks && file.appendNow?.(bytes)) {
      this.#pace.blocked(start, performance.now());
      return;
    }
    await file.append(bytes);
    if (file.appendNow) this.#pace.waited(start, performance.now());
  }

  async seal(clock: LogClock): Promise<void> {
    this.appendClock(clock);
    this.#epoch = clock.epoch;
    const lsnLast = this.#lastLsn;
    this.#frame(FRAME.seal, packBytes({ lsnLast, ts: clock.ts }));
    this.#sealing = true;
    await this.sync();
    await this.#guard(async () => {
      const active = this.#active as ActiveFile;
      await active.file.close();
      this.#active = undefined;
      this.#sealing = false;
      const { sequence, bytes } = active;
      this.#sealed.push({ sequence, lsnFirst: this.#lsnFirstActive, lsnLast, ts: clock.ts, bytes });
      this.#sealedBytes += bytes;
      // only a file whose seal is durable gets the name under which the archiver reads it
      await this.#files.rename(active.path, join(this.#dir, logFileName(active.sequence, true)));
      await this.#files.syncDir(this.#dir);
    });
  }

  async trim(lsn: number): Promise<number> {
    let removed = 0;
    // a file ends where its successor starts; the newest sealed file always stays: it holds the last clock frame.
    // Synced one by one: a power cut that took a later name and left an earlier one would look like a missing file
    while (this.#sealed.length > 1 && this.#sealed[1].lsnFirst - 1 <= lsn) {
      // not there: an earlier try that was said to have failed
      await removeIfThere(this.#files, join(this.#dir, logFileName(this.#sealed[0].sequence, true)));
      await this.#files.syncDir(this.#dir);
      this.#sealedBytes -= this.#sealed.shift()?.bytes ?? 0;
      removed++;
    }
    return removed;
  }

  async close(): Promise<void> {
    await this.#active?.file.close();
    this.#active = undefined;
    this.#failure ??= new PitrError('engine-closed', { dir: this.#dir });
  }

  #frame(type: number, payload: Uint8Array): void {
    this.#buffer.begin(type, this.#syncedBytes);
    this.#buffer.raw(payload);
    this.#buffer.end();
  }

  async #create(first: Pick<LogFileHeader, 'lsnFirst' | 'chain' | 'epoch'>): Promise<ActiveFile> {
    const sequence = this.#sequenceNext++;
    const path = join(this.#dir, logFileName(sequence, false));
    const file = await this.#files.createNew(path);
    const header = encodeEnvelope(LOG_MAGIC, LOG_VERSION, {
      ...this.#header,
      sequence,
      ...first,
    } satisfies LogFileHeader);
    try {
      await file.append(header);
      // header and name are durable before the first frame, so an intact frame proves that the header was once whole
      await file.sync();
      await this.#files.syncDir(this.#dir);
    } finally {
      await file.close();
    }
    const bytes = header.length;
    this.#active = {
      file: await this.#files.openSynced(path, bytes),
      path,
      sequence,
      bytes,
      syncedBytes: bytes,
    };
    this.#lsnFirstActive = first.lsnFirst;
    return this.#active;
  }

  /** Frames collect before their file exists, so what its header would say is noted when the first of them begins. */
  #first = { lsnFirst: 0, chain: 0 };
  /** From the seal frame until the file is closed: what is appended meanwhile goes into the next file. */
  #sealing = false;

  /** Durable bytes of the file into which the next frame goes. */
  get #syncedBytes(): number {
    return this.#sealing ? 0 : (this.#active?.syncedBytes ?? 0);
  }

  #check(): void {
    if (this.#failure) throw this.#failure;
    if (this.#buffer.length === 0) this.#first = { lsnFirst: this.#lastLsn + 1, chain: this.#buffer.chain };
  }

  /** After a failed write or sync nobody knows what the file holds: nothing is appended any more, start-up decides. */
  async #guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      const why = (cause as NodeJS.ErrnoException).code ?? String(cause);
      this.#failure = new PitrError('log-full', { dir: this.#dir, why }, { cause });
      throw this.#failure;
    }
  }
}

interface Recovered {
  readonly recovery: LogRecovery;
  readonly chain: number;
  readonly active: ActiveFile | undefined;
  readonly sequenceNext: number;
  readonly sealed: SealedFile[];
  readonly lsnFirstActive: number;
}

const recoverLog = async (options: LocalLogOptions, files: Files): Promise<Recovered> => {
  const dir = join(options.dir, LOG_DIR);
  await files.makeDir(dir);
  // a killed writer's renames and removals, too: nothing is built on a name that a power cut can still take back
  await files.syncDir(dir);
  const found = logFilesIn(await files.list(dir));
  let lsnNext = options.afterLsn + 1;
  let fileTs = 0;
  const count = { versions: 0, events: 0, tornBytes: 0, lastTs: 0, epoch: options.epoch };
  const replay = (entry: LogEntry): void => {
    if (entry.kind === 'clock') {
      fileTs = entry.clock.ts;
      count.lastTs = Math.max(count.lastTs, entry.clock.ts);
      count.epoch = entry.clock.epoch;
      options.replay(entry);
      return;
    }
    const { lsn, ts } = entry.kind === 'version' ? entry.version : entry.event;
    count.lastTs = Math.max(count.lastTs, ts);
    if (entry.kind === 'event' && entry.event.kind === 'ownership') count.epoch = entry.event.epoch;
    if (lsn < lsnNext) return;
    if (lsn > lsnNext)
      throw new PitrError('log-gap', { stream: options.stream, expected: lsnNext, actual: lsn });
    lsnNext++;
    if (entry.kind === 'version') count.versions++;
    else count.events++;
    options.replay(entry);
  };

  let active: ActiveFile | undefined;
  let chain: number | undefined;
  const sealedFiles: SealedFile[] = [];
  let lsnFirstActive = 0;
  let sequenceNext = 1;
  let logLsn: number | undefined;
  for (let i = 0; i < found.length; i++) {
    const { name, sealed, sequence } = found[i];
    const path = join(dir, name);
    const newest = i === found.length - 1;
    if (i > 0 && sequence !== found[i - 1].sequence + 1)
      throw new PitrError('log-corrupt', {
        path,
        offset: 0,
        why: `file ${found[i - 1].sequence + 1} is missing`,
      });
    if (!sealed && !newest)
      throw new PitrError('log-corrupt', { path, offset: 0, why: 'an unsealed file has a successor' });
    const bytes = await files.read(path).catch(async (cause) => {
      if (cause.code === 'ENOENT') await assertNotSpilled(path, files);
      throw cause;
    });
    try {
      if (!sealed && isTornCreation(bytes, path, options.engineId)) {
        // the writer died before its first sync: nothing in it was acknowledged
        count.tornBytes += bytes.length;
        await files.remove(path);
        await files.syncDir(dir);
        sequenceNext = sequence;
        break;
      }
      if (!sealed) await copyDurably(files, dir, name, bytes);
      // before anything of it is replayed: what a foreign or misplaced file says must not reach the store
      checkIdentity(decodeLogHeader(bytes, path).body, options, path, sequence, chain);
      const content = scanLogFile(bytes, path, !sealed, replay);
      chain = content.chain;
      logLsn = content.lsnNext - 1;
      sequenceNext = sequence + 1;
      count.tornBytes += content.tornBytes;
      if (content.goodBytes < bytes.length) await files.truncate(path, content.goodBytes);
      const { lsnFirst } = content.header;
      // the seal's clock frame is the newest thing in a sealed file
      const asSealed = { sequence, lsnFirst, lsnLast: content.lsnNext - 1, ts: fileTs };
      if (sealed) sealedFiles.push({ ...asSealed, bytes: bytes.length });
      else if (content.sealed) {
        await files.rename(path, join(dir, logFileName(sequence, true)));
        await files.syncDir(dir);
        sealedFiles.push({ ...asSealed, bytes: content.goodBytes });
      } else {
        const file = await files.openSynced(path, content.goodBytes);
        lsnFirstActive = lsnFirst;
        active = { file, path, sequence, bytes: content.goodBytes, syncedBytes: content.goodBytes };
      }
    } catch (error) {
      if (isPitrError(error, 'log-corrupt')) await files.link(path, `${path}.broken`).catch(() => undefined);
      throw error;
    }
  }
  // the log ends before the store (its newest files are gone), or after LSNs that neither has (its oldest are gone)
  const lastLsn = lsnNext - 1;
  if ((logLsn ?? 0) !== lastLsn) {
    await active?.file.close();
    throw new PitrError('log-gap', {
      stream: options.stream,
      expected: lastLsn,
      actual: logLsn ?? 'nothing',
    });
  }
  return {
    recovery: {
      files: found.length,
      versions: count.versions,
      events: count.events,
      tornBytes: count.tornBytes,
      lastLsn,
      lastTs: count.lastTs,
      epoch: count.epoch,
    },
    chain: chain ?? 0,
    active,
    sequenceNext,
    sealed: sealedFiles,
    lsnFirstActive,
  };
};

/**
 * What a dead writer left is durable, with its name, before store, file name or archiver build on it. A copy takes its place: after
 * a sync that failed the system may take pages for written that are not, and a second sync would find nothing to do.
 */
const copyDurably = async (files: Files, dir: string, name: string, bytes: Buffer): Promise<void> => {
  const copy = join(dir, `${name}.copy`);
  await removeIfThere(files, copy);
  const file = await files.createNew(copy);
  try {
    await file.append(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await files.rename(copy, join(dir, name));
  await files.syncDir(dir);
};

/** No readable header and no intact frame: the file's first sync never finished, nothing in it was acknowledged. */
const isTornCreation = (bytes: Buffer, path: string, engineId: string): boolean => {
  try {
    decodeLogHeader(bytes, path);
    return false;
  } catch (error) {
    return (
      isPitrError(error, 'log-corrupt') &&
      framesAfter(bytes, 0, frameSeed(engineId), () => error).next().done === true
    );
  }
};

const checkIdentity = (
  header: LogFileHeader,
  options: LocalLogOptions,
  path: string,
  sequence: number,
  chain: number | undefined,
): void => {
  if (header.engine !== options.engineId)
    throw new PitrError('log-foreign', { path, actual: header.engine, expected: options.engineId });
  if (header.sequence !== sequence)
    throw new PitrError('log-corrupt', {
      path,
      offset: 0,
      why: `it is file ${header.sequence} under another name`,
    });
  if (chain !== undefined && header.chain !== chain)
    throw new PitrError('log-corrupt', { path, offset: 0, why: 'it does not follow its predecessor' });
};
