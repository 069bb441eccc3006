import { join } from 'node:path';
import { isPitrError, PitrError } from '../engine/errors.ts';
import type { Files } from '../engine/files.ts';
import type { EngineIdentity } from '../engine/identity.ts';
import type { Archive } from './archive.ts';
import { segmentName } from './archive.ts';
import { writeArchived } from './archived.ts';
import type { ArchiverEvent } from './archiver-types.ts';
import { runOf } from './catalog.ts';
import { Continuity } from './continuity.ts';
import { withCause } from './dropped.ts';
import type { HeldHead } from './held-head.ts';
import { LOG_DIR } from './local-log.ts';
import { type LogFileName, logFilesIn } from './log-file.ts';
import { LogReader } from './log-reader.ts';
import { segmentOfLog } from './log-segment.ts';
import { segmentRefOf } from './segment-writer.ts';
import { headWith, type LogPosition, objectsIn, type ShipLimits, type Shipment } from './shipment.ts';
import { ShipmentQueue } from './shipment-queue.ts';

export interface ShipperParts {
  /** Engine directory. */
  readonly dir: string;
  readonly identity: EngineIdentity;
  readonly archive: Archive;
  readonly held: HeldHead;
  readonly files: Files;
  readonly limits: ShipLimits;
  readonly emit: (event: ArchiverEvent) => void;
}

/** A shipment, and the bytes of the object that it begins with. */
interface Packed {
  readonly shipment: Shipment;
  readonly bytes: Uint8Array;
}

/**
 * Brings sealed log files of one engine directory into the archive, in the order segment objects → catalog head → word to the
 * engine that it may trim: a crash anywhere leaves the truth. Calls must not overlap with each other or with the head's.
 */
export class Shipper {
  readonly #parts: ShipperParts;
  readonly #logDir: string;
  readonly #continuity: Continuity;

  constructor(parts: ShipperParts) {
    this.#parts = parts;
    this.#logDir = join(parts.dir, LOG_DIR);
    this.#continuity = new Continuity(this.#logDir, parts.files);
  }

  /**
   * Ships all that waits. Returns the number of versions.
   * @throws log-corrupt, log-foreign, log-gap, log-rolled-back, fenced, archive-not-found, archive-mismatch, io
   */
  async shipAll(): Promise<number> {
    let versions = 0;
    for (;;) {
      const waiting = await this.#waiting();
      const before = this.#parts.held.current.sequence;
      if (waiting.length > 0) versions += await this.#ship(waiting);
      // all that waited may have been trimmed meanwhile
      if (this.#parts.held.current.sequence === before) return versions;
    }
  }

  async #waiting(): Promise<LogFileName[]> {
    const { files, held } = this.#parts;
    const names = await files.list(this.#logDir).catch((cause) => {
      if (cause.code === 'ENOENT') return [];
      throw new PitrError('io', { op: 'list', path: this.#logDir, why: cause.code }, { cause });
    });
    const found = logFilesIn(names);
    await this.#continuity.check(found, held.current);
    return found.filter((f) => f.sealed && f.sequence > held.current.sequence);
  }

  /** One pass over files: what is packed sets out, and the next is packed meanwhile. */
  async #ship(waiting: readonly LogFileName[]): Promise<number> {
    const { archive, held, limits } = this.#parts;
    const wasLooked = await held.assertHere();
    const queue = new ShipmentQueue(
      {
        create: (name, bytes) => archive.store.create(name, bytes),
        publish: (shipments) => this.#publish(shipments),
        discard: async (names) => void (await archive.store.delete(names)),
      },
      limits,
    );
    try {
      return await this.#fill(queue, waiting);
    } catch (error) {
      held.doubt();
      // without the look before it, a vanished archive is first seen as some call that fails
      if (!wasLooked && !isPitrError(error, 'fenced'))
        await archive.assertHere().catch((why) => {
          if (isPitrError(why, 'archive-not-found') || isPitrError(why, 'archive-mismatch')) throw why;
        });
      throw error;
    }
  }

  async #fill(queue: ShipmentQueue, waiting: readonly LogFileName[]): Promise<number> {
    let at: LogPosition = this.#parts.held.current;
    let unreadable: { readonly error: unknown } | undefined;
    try {
      for (;;) {
        const packed = await this.#pack(
          at,
          waiting.filter((f) => f.sequence > at.sequence),
        );
        if (!packed || !(await queue.add(packed.shipment, packed.bytes))) break;
        at = packed.shipment.end;
      }
    } catch (error) {
      unreadable = { error };
    }
    const versions = await queue.end();
    if (unreadable) throw unreadable.error;
    return versions;
  }

  /** The next files as one segment; undefined when there is none to read any more. */
  async #pack(after: LogPosition, waiting: readonly LogFileName[]): Promise<Packed | undefined> {
    const { identity, files, held, archive, limits } = this.#parts;
    const batch = new LogReader(identity, after);
    await batch.readFiles(this.#logDir, waiting, files, limits);
    if (batch.sequence === 0) return undefined;
    const { clock, lsnStart, lsnEnd, sequence, chain, marks } = batch;
    if (!clock)
      throw new PitrError('log-corrupt', {
        path: this.#logDir,
        offset: 0,
        why: 'a sealed file without clock frame',
      });
    const shipment = {
      end: {
        frontier: { ts: Math.max(clock.ts, after.frontier.ts), lsn: lsnEnd - 1 },
        sequence,
        chain,
      },
      clock: batch.clockEvent(),
      gap: batch.gap && (await withCause(batch.gap, this.#logDir, files)),
      marks,
      versions: batch.versions.rows,
    };
    if (lsnEnd === lsnStart) return { shipment: { ...shipment, run: null }, bytes: new Uint8Array(0) };
    const { timeline, stream, generation } = held.current;
    const finished = segmentOfLog(
      { versions: batch.versions, events: batch.allEvents(), streams: batch.streams() },
      { archive: archive.id, timeline, generation },
    );
    const name = segmentName(timeline, stream, 0, lsnStart, lsnEnd, generation);
    const run = runOf(0, lsnStart, lsnEnd, [segmentRefOf(name, finished)]);
    return { shipment: { ...shipment, run }, bytes: finished.bytes };
  }

  async #publish(shipments: readonly Shipment[]): Promise<void> {
    const { dir, held, files, emit, identity } = this.#parts;
    const head = held.current;
    const next = shipments.reduce(headWith, head);
    await held.publishWith(head, next, shipments.flatMap(objectsIn));
    this.#continuity.shipped(next.sequence);
    await writeArchived(dir, { lsn: next.frontier.lsn, sequence: next.sequence }, files);
    const { stream } = identity;
    for (const { gap, run, versions, end } of shipments) {
      if (gap) emit({ kind: 'gap', stream, gap });
      const bytes = run?.segments.reduce((n, s) => n + s.bytes, 0) ?? 0;
      if (run) emit({ kind: 'archived', stream, versions, bytes, frontierTs: end.frontier.ts });
    }
  }
}
