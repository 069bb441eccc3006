import { join } from 'node:path';
import type { LogClock, LogEntry } from '../engine/commit-log.ts';
import { PitrError } from '../engine/errors.ts';
import type { Files } from '../engine/files.ts';
import type { EngineIdentity } from '../engine/identity.ts';
import type { Gap, Mark } from './catalog.ts';
import type { ArchiveEvent, ClockEvent } from './event.ts';
import { LogColumns } from './log-columns.ts';
import { decodeLogHeader, type LogFileName, scanLogFile } from './log-file.ts';
import { archiveEventOf } from './log-segment.ts';
import type { StreamSpan } from './segment.ts';
import type { LogPosition, ShipLimits } from './shipment.ts';
import { assertNotSpilled } from './spill-dir.ts';

/** Collects the content of consecutive sealed files for one segment. */
export class LogReader {
  readonly versions = new LogColumns();
  readonly marks: Mark[] = [];
  clock: LogClock | undefined;
  gap: Gap | undefined;
  sequence = 0;
  /** crc32 of the last frame read. */
  chain: number | null = null;
  lsnStart: number;
  lsnEnd: number;
  readonly #identity: EngineIdentity;
  /** Where the archive's log ends before it. */
  readonly #after: LogPosition;
  readonly #events: ArchiveEvent[] = [];
  readonly #clocks: ClockEvent[] = [];
  #newestClock: ClockEvent | undefined;
  /** Of the newest clock frame that was read. */
  #frontierTs = -1;
  /** Newest ts of what was read. */
  #tsMax = 0;
  readonly #epochs: { epoch: number; lsn: number }[] = [];
  #started = false;

  constructor(identity: EngineIdentity, after: LogPosition) {
    this.#identity = identity;
    this.#after = after;
    this.lsnStart = after.frontier.lsn + 1;
    this.lsnEnd = this.lsnStart;
  }

  /** Reads as many of `waiting` as one segment takes; none when all were trimmed meanwhile. @throws what {@link read} throws, io */
  async readFiles(
    dir: string,
    waiting: readonly LogFileName[],
    files: Files,
    limits: Pick<ShipLimits, 'segmentVersions' | 'segmentLogBytes'>,
  ): Promise<void> {
    let bytesRead = 0;
    for (const { name, sequence } of waiting) {
      // a missing file ends the batch: the next one begins with the gap
      if (this.#started && sequence !== this.sequence + 1) break;
      const path = join(dir, name);
      const bytes = await files.read(path).catch((cause) => {
        // a file without changes is trimmed although it is not archived
        if (cause.code === 'ENOENT') return assertNotSpilled(path, files);
        throw new PitrError('io', { op: 'read', path, why: cause.code }, { cause });
      });
      if (!bytes) continue;
      this.read(bytes, path, sequence);
      bytesRead += bytes.length;
      if (this.versions.rows >= limits.segmentVersions || bytesRead >= limits.segmentLogBytes) break;
    }
  }

  /** @throws log-corrupt, log-foreign, log-gap; log-rolled-back when the file does not follow what is archived */
  read(bytes: Buffer, path: string, sequence: number): void {
    const { stream } = this.#identity;
    this.#checkHeader(bytes, path, sequence);
    let epoch = this.#epochs.at(-1)?.epoch ?? 0;
    let firstTs: number | undefined;
    let tsMin = Number.POSITIVE_INFINITY;
    const newTs = (ts: number): void => {
      firstTs ??= ts;
      if (ts < tsMin) tsMin = ts;
      if (ts > this.#tsMax) this.#tsMax = ts;
    };
    const pending: (() => void)[] = [];
    this.versions.beginFile(bytes);
    const onEntry = (entry: LogEntry): void => {
      if (entry.kind === 'clock') {
        this.clock = entry.clock;
        this.#frontierTs = entry.clock.ts;
        this.#newestClock = { kind: 'clock', stream, ...entry.clock };
        const last = this.#clocks.at(-1);
        // the same positions are another state once a version that was ahead of the frontier counts
        if (entry.clock.lsn > (last?.lsn ?? this.lsnStart - 1) || (last && this.#tsMax > last.ts))
          this.#clocks.push(this.#newestClock);
        return;
      }
      if (entry.kind === 'version') return;
      const { event } = entry;
      if (event.ts <= this.#frontierTs)
        throw new PitrError('log-corrupt', { path, offset: 0, why: `a ${event.kind} ${this.#tooOld}` });
      newTs(event.ts);
      pending.push(() => {
        if (event.kind === 'ownership' && event.epoch !== epoch) {
          epoch = event.epoch;
          this.#epochs.push({ epoch, lsn: event.lsn });
        }
        if (event.kind === 'mark') this.marks.push({ name: event.name, lsn: event.lsn, ts: event.ts });
        this.#events.push(archiveEventOf(event, stream, epoch));
      });
    };
    const content = scanLogFile(bytes, path, false, onEntry, (payload, lsnNext, bad) => {
      const from = this.versions.rows;
      const next = this.versions.append(payload, lsnNext, bad);
      const { ts, rows } = this.versions;
      for (let i = from; i < rows; i++) {
        if (ts[i] <= this.#frontierTs)
          throw bad(`a version from before the frontier ${this.#frontierTs} (F1)`);
        newTs(ts[i]);
      }
      return next;
    });
    // a capture's first version may be ahead of others; an engine's is the oldest
    if (!this.#started && tsMin <= this.#after.frontier.ts)
      throw this.#rolledBack(path, 'it has changes from before the archived frontier');
    if (!this.#started) {
      this.#started = true;
      if (content.header.lsnFirst > this.lsnStart) {
        this.gap = {
          lsnStart: this.lsnStart,
          lsnEnd: content.header.lsnFirst,
          afterTs: this.#after.frontier.ts,
          untilTs: firstTs ?? this.clock?.ts ?? this.#after.frontier.ts,
          cause: 'log files are missing',
        };
        this.lsnStart = content.header.lsnFirst;
        this.lsnEnd = this.lsnStart;
      }
      epoch = content.header.epoch;
      this.#epochs.push({ epoch, lsn: this.lsnStart });
    } else if (content.header.lsnFirst !== this.lsnEnd)
      throw new PitrError('log-gap', { stream, expected: this.lsnEnd, actual: content.header.lsnFirst });
    for (const apply of pending) apply();
    this.lsnEnd = Math.max(this.lsnEnd, content.lsnNext);
    this.sequence = content.header.sequence;
    this.chain = content.chain;
  }

  /** Before anything of the file is taken. */
  #checkHeader(bytes: Buffer, path: string, sequence: number): void {
    const { engineId } = this.#identity;
    const { body } = decodeLogHeader(bytes, path);
    if (body.engine !== engineId)
      throw new PitrError('log-foreign', { path, actual: body.engine, expected: engineId });
    const corrupt = (why: string): PitrError => new PitrError('log-corrupt', { path, offset: 0, why });
    if (body.sequence !== sequence) throw corrupt(`it is file ${body.sequence} under another name`);
    if (this.#started) {
      if (body.chain !== this.chain) throw corrupt('it does not follow its predecessor');
      return;
    }
    const { sequence: archived, chain, frontier } = this.#after;
    if (typeof chain === 'number' && sequence === archived + 1 && body.chain !== chain)
      throw this.#rolledBack(path, `it does not follow file ${archived} as it was archived`);
    if (body.lsnFirst <= frontier.lsn)
      throw this.#rolledBack(path, `it begins at LSN ${body.lsnFirst}, archived is LSN ${frontier.lsn}`);
  }

  get #tooOld(): string {
    return `from before the frontier ${this.#frontierTs} that was stated before it (F1)`;
  }

  #rolledBack(path: string, why: string): PitrError {
    return new PitrError('log-rolled-back', { path, stream: this.#identity.stream, why });
  }

  /** Events of the batch with the clock frames that each new position got first: what a restore to that time is compared with. */
  allEvents(): ArchiveEvent[] {
    return [...this.#events, ...this.#clocks];
  }

  clockEvent(): ClockEvent | undefined {
    return this.#newestClock;
  }

  streams(): StreamSpan[] {
    return this.#epochs.map(({ epoch, lsn }, i) => ({
      epoch,
      stream: this.#identity.stream,
      lsnStart: lsn,
      lsnEnd: this.#epochs[i + 1]?.lsn ?? this.lsnEnd,
    }));
  }
}
