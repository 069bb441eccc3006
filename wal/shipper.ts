import { join } from 'node:path';
import { PitrError } from '../engine/errors.ts';
import type { Files } from '../engine/files.ts';
import type { EngineIdentity } from '../engine/identity.ts';
import type { Archive } from './archive.ts';
import { segmentName } from './archive.ts';
import { writeArchived } from './archived.ts';
import type { ArchiverEvent } from './archiver-types.ts';
import { HEAD_MARKS_MAX, type Head, runOf, withWritten } from './catalog.ts';
import { Continuity } from './continuity.ts';
import { withCause } from './dropped.ts';
import type { HeldHead } from './held-head.ts';
import { LOG_DIR } from './local-log.ts';
import { logFilesIn } from './log-file.ts';
import { LogReader } from './log-reader.ts';
import { segmentOfLog } from './log-segment.ts';
import { segmentRefOf } from './segment-writer.ts';

/**
 * Brings sealed log files of one engine directory into the archive, in the order segment object → catalog head → word to the
 * engine that it may trim: a crash anywhere leaves the truth. Calls must not overlap with each other or with the head's.
 */
export class Shipper {
  readonly #dir: string;
  readonly #identity: EngineIdentity;
  readonly #archive: Archive;
  readonly #held: HeldHead;
  readonly #files: Files;
  readonly #emit: (event: ArchiverEvent) => void;
  readonly #continuity: Continuity;

  constructor(
    dir: string,
    identity: EngineIdentity,
    archive: Archive,
    held: HeldHead,
    files: Files,
    emit: (event: ArchiverEvent) => void,
  ) {
    this.#dir = dir;
    this.#identity = identity;
    this.#archive = archive;
    this.#held = held;
    this.#files = files;
    this.#emit = emit;
    this.#continuity = new Continuity(join(dir, LOG_DIR), files);
  }

  /** Ships all that waits. Returns the number of versions. @throws log-corrupt, log-foreign, log-gap, log-rolled-back, fenced, io */
  async shipAll(): Promise<number> {
    let versions = 0;
    for (;;) {
      const shipped = await this.#shipNext();
      if (shipped === undefined) return versions;
      versions += shipped;
    }
  }

  async #shipNext(): Promise<number | undefined> {
    const dir = join(this.#dir, LOG_DIR);
    const names = await this.#files.list(dir).catch((cause) => {
      if (cause.code === 'ENOENT') return [];
      throw new PitrError('io', { op: 'list', path: dir, why: cause.code }, { cause });
    });
    const head = this.#held.current;
    const { stream } = head;
    const files = logFilesIn(names);
    await this.#continuity.check(files, head);
    const waiting = files.filter((f) => f.sealed && f.sequence > head.sequence);
    if (waiting.length === 0) return undefined;
    await this.#archive.assertHere();
    const batch = new LogReader(this.#identity, head);
    await batch.readFiles(dir, waiting, this.#files);
    if (batch.sequence === 0) return undefined;
    const { clock } = batch;
    const gap = batch.gap && (await withCause(batch.gap, dir, this.#files));
    if (!clock)
      throw new PitrError('log-corrupt', { path: dir, offset: 0, why: 'a sealed file without clock frame' });
    let next: Head = {
      ...head,
      frontier: { ts: Math.max(clock.ts, head.frontier.ts), lsn: batch.lsnEnd - 1 },
      clock: batch.clockEvent() ?? head.clock,
      sequence: batch.sequence,
      chain: batch.chain,
      gaps: gap ? [...head.gaps, gap] : head.gaps,
    };
    let bytes = 0;
    const objects: string[] = [];
    if (batch.lsnEnd > batch.lsnStart) {
      const { timeline, generation } = head;
      const finished = segmentOfLog(
        { versions: batch.versions, events: batch.allEvents(), streams: batch.streams() },
        { archive: this.#archive.id, timeline, generation },
      );
      const name = segmentName(timeline, stream, 0, batch.lsnStart, batch.lsnEnd, generation);
      await this.#archive.store.create(name, finished.bytes);
      objects.push(name);
      bytes = finished.bytes.length;
      const segments = [segmentRefOf(name, finished)];
      next = {
        ...next,
        runs: [...next.runs, runOf(0, batch.lsnStart, batch.lsnEnd, segments)],
        marks: [...next.marks, ...batch.marks].slice(-HEAD_MARKS_MAX),
        written: withWritten(next.written, 'seals', segments),
      };
    }
    await this.#held.publishWith(head, next, objects);
    this.#continuity.shipped(next.sequence);
    await writeArchived(this.#dir, { lsn: next.frontier.lsn, sequence: next.sequence }, this.#files);
    const versions = batch.versions.rows;
    if (gap) this.#emit({ kind: 'gap', stream, gap });
    if (bytes > 0) this.#emit({ kind: 'archived', stream, versions, bytes, frontierTs: next.frontier.ts });
    return versions;
  }
}
