import type { LogClock, LogVersion } from '../engine/commit-log.ts';
import { PitrError } from '../engine/errors.ts';
import type { EngineIdentity } from '../engine/identity.ts';
import type { Gap, Head, Mark } from './catalog.ts';
import type { ArchiveEvent, ClockEvent } from './event.ts';
import { scanLogFile } from './log-file.ts';
import { archiveEventOf } from './log-segment.ts';
import type { StreamSpan } from './segment.ts';

/** Collects the content of consecutive sealed files for one segment. */
export class LogReader {
  readonly versions: LogVersion[] = [];
  readonly marks: Mark[] = [];
  clock: LogClock | undefined;
  gap: Gap | undefined;
  sequence = 0;
  lsnStart: number;
  lsnEnd: number;
  readonly #identity: EngineIdentity;
  readonly #frontierTs: number;
  readonly #events: ArchiveEvent[] = [];
  readonly #clocks: ClockEvent[] = [];
  #newestClock: ClockEvent | undefined;
  readonly #epochs: { epoch: number; lsn: number }[] = [];
  #started = false;

  constructor(identity: EngineIdentity, head: Head) {
    this.#identity = identity;
    this.#frontierTs = head.frontier.ts;
    this.lsnStart = head.frontier.lsn + 1;
    this.lsnEnd = this.lsnStart;
  }

  read(bytes: Buffer, path: string, sequence: number): void {
    const { stream, engineId } = this.#identity;
    let epoch = this.#epochs.at(-1)?.epoch ?? 0;
    let firstTs: number | undefined;
    const pending: (() => void)[] = [];
    const content = scanLogFile(bytes, path, false, (entry) => {
      if (entry.kind === 'clock') {
        this.clock = entry.clock;
        this.#newestClock = { kind: 'clock', stream, ...entry.clock };
        if (entry.clock.lsn > (this.#clocks.at(-1)?.lsn ?? this.lsnStart - 1))
          this.#clocks.push(this.#newestClock);
        return;
      }
      if (entry.kind === 'version') {
        firstTs ??= entry.version.ts;
        // LSNs at or below the frontier are in the archive already: a file that was sealed twice over a crash
        if (entry.version.lsn >= this.lsnStart) this.versions.push(entry.version);
        return;
      }
      const { event } = entry;
      firstTs ??= event.ts;
      pending.push(() => {
        if (event.lsn < this.lsnStart) return;
        if (event.kind === 'ownership' && event.epoch !== epoch) {
          epoch = event.epoch;
          this.#epochs.push({ epoch, lsn: event.lsn });
        }
        if (event.kind === 'mark') this.marks.push({ name: event.name, lsn: event.lsn, ts: event.ts });
        this.#events.push(archiveEventOf(event, stream, epoch));
      });
    });
    if (content.header.engine !== engineId)
      throw new PitrError('log-foreign', { path, actual: content.header.engine, expected: engineId });
    if (content.header.sequence !== sequence)
      throw new PitrError('log-corrupt', {
        path,
        offset: 0,
        why: `it is file ${content.header.sequence} under another name`,
      });
    if (!this.#started) {
      this.#started = true;
      if (content.header.lsnFirst > this.lsnStart) {
        this.gap = {
          lsnStart: this.lsnStart,
          lsnEnd: content.header.lsnFirst,
          afterTs: this.#frontierTs,
          untilTs: firstTs ?? this.clock?.ts ?? this.#frontierTs,
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
