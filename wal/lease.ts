import { randomBytes } from 'node:crypto';
import type { Clock } from '../engine/clock.ts';
import { isPitrError, PitrError } from '../engine/errors.ts';
import type { Archive } from './archive.ts';

/** All leases of an archive: one swapped object, so that nothing is decided from a listing. */
export const LEASES_OBJECT = 'leases/held';
/** A lease that is not renewed for this time is over. */
const TTL_MS = 2 * 60 * 1000;
/** Renewals in that time. */
const BEATS = 4;
/** What nobody has renewed for this long by any clock goes when somebody writes the table anyway. */
const FORGOTTEN_MS = 24 * 60 * 60 * 1000;

/** Somebody works by a catalog that was read after the lease was written. */
export interface LeaseEntry {
  readonly id: string;
  /** For people: `restore`, `verify` … */
  readonly purpose: string;
  readonly ttlMs: number;
  /** Rises with each renewal. */
  readonly beats: number;
  readonly begunMs: number;
  readonly renewedMs: number;
}

interface LeaseTable {
  readonly archive: string;
  readonly leases: readonly LeaseEntry[];
}

export interface LeaseOptions {
  readonly ttlMs?: number;
  /** The archive cannot be written: the work goes on without protection. Default: a process warning. */
  readonly onUnprotected?: (why: string) => void;
}

/**
 * Runs `work`, which reads a catalog and then the objects that it names, under a lease: what the archiver retires meanwhile
 * stays until the work has ended. The lease is renewed on a timer and outlives a dead holder by two minutes.
 *
 * Without the right to write, the work runs all the same and says so. Objects are never written again under the same name, so
 * a holder that slept through its lease finds them as they were, or gone.
 * @throws lease-lost in place of object-not-found, when the lease was not held
 */
export const withLease = async <T>(
  archive: Archive,
  purpose: string,
  work: () => Promise<T>,
  options: LeaseOptions = {},
): Promise<T> => {
  const lease = new HeldLease(archive, purpose, options);
  await lease.take();
  try {
    return await work();
  } catch (error) {
    if (isPitrError(error, 'object-not-found')) await lease.explain(error);
    throw error;
  } finally {
    await lease.release();
  }
};

class HeldLease {
  readonly #archive: Archive;
  readonly #purpose: string;
  readonly #options: LeaseOptions;
  readonly #ttlMs: number;
  readonly #id = randomBytes(8).toString('hex');
  readonly #begunMs: number;
  #beats = 0;
  #timer: NodeJS.Timeout | undefined;
  #renewing: Promise<void> = Promise.resolve();
  #lapsed: string | undefined;
  #unprotected: string | undefined;

  constructor(archive: Archive, purpose: string, options: LeaseOptions) {
    this.#archive = archive;
    this.#purpose = purpose;
    this.#options = options;
    this.#ttlMs = options.ttlMs ?? TTL_MS;
    this.#begunMs = archive.clock.nowMs();
  }

  async take(): Promise<void> {
    try {
      await this.#put();
    } catch (error) {
      if (!(error instanceof PitrError)) throw error;
      this.#unprotected = error.message;
      const warn = this.#options.onUnprotected ?? warnProcess;
      warn(`${this.#purpose} holds no lease, so a running agent may delete what it reads: ${error.message}`);
      return;
    }
    this.#timer = setInterval(() => {
      this.#renewing = this.#renewing.then(() => this.#renew());
    }, this.#ttlMs / BEATS);
    this.#timer.unref();
  }

  async release(): Promise<void> {
    clearInterval(this.#timer);
    await this.#renewing;
    if (this.#unprotected !== undefined) return;
    // one that stays is over soon
    await change(this.#archive, (all) => all.filter((l) => l.id !== this.#id)).catch(() => undefined);
  }

  /** Throws lease-lost if that is why an object was not there. */
  async explain(cause: PitrError): Promise<void> {
    const why = this.#unprotected ?? (await this.#whyNotHeld());
    if (why !== undefined) throw new PitrError('lease-lost', { what: this.#purpose, why }, { cause });
  }

  async #whyNotHeld(): Promise<string | undefined> {
    if (this.#lapsed !== undefined) return this.#lapsed;
    // who has just woken up finds it gone before its timer does
    const { leases } = await readTable(this.#archive);
    return leases.some((l) => l.id === this.#id) ? undefined : this.#over();
  }

  #over(): string {
    return `its lease was not renewed for ${this.#ttlMs / 1000} s`;
  }

  async #renew(): Promise<void> {
    try {
      await this.#put();
    } catch {
      // the archive is away: whoever judges leases cannot reach it either, or judges by the next renewal
    }
  }

  async #put(): Promise<void> {
    this.#beats++;
    const entry: LeaseEntry = {
      id: this.#id,
      purpose: this.#purpose,
      ttlMs: this.#ttlMs,
      beats: this.#beats,
      begunMs: this.#begunMs,
      renewedMs: this.#archive.clock.nowMs(),
    };
    await change(this.#archive, (all) => {
      // somebody took it for dead: what it kept may be gone, what is not stays again
      if (this.#beats > 1 && !all.some((l) => l.id === this.#id)) this.#lapsed ??= this.#over();
      return [...all.filter((l) => l.id !== this.#id), entry];
    });
  }
}

/**
 * Which leases are held, as one that deletes sees it. It compares no clocks: a lease is over when its counter has not moved for
 * its time to live **by this process's own clock**, so that an agent that starts anew waits once more. From one look to the next
 * no more passes than a holder takes to renew: a clock that leaps, or a machine that slept with both of them, ends no lease.
 */
export class LeaseWatch {
  readonly #archive: Archive;
  readonly #clock: Clock;
  readonly #seen = new Map<string, { beats: number; waitedMs: number }>();
  #lookedMs = 0;

  constructor(archive: Archive, clock: Clock) {
    this.#archive = archive;
    this.#clock = clock;
  }

  /** Ids of the leases that are held; those that are over are removed from the table. */
  async held(): Promise<ReadonlySet<string>> {
    const { leases } = await readTable(this.#archive);
    const nowMs = this.#clock.nowMs();
    const passedMs = Math.max(0, nowMs - this.#lookedMs);
    this.#lookedMs = nowMs;
    const over: LeaseEntry[] = [];
    for (const lease of leases) {
      const { id, beats, ttlMs } = lease;
      const seen = this.#seen.get(id);
      const waitedMs = seen?.beats === beats ? seen.waitedMs + Math.min(passedMs, ttlMs / BEATS) : 0;
      this.#seen.set(id, { beats, waitedMs });
      if (waitedMs > ttlMs) over.push(lease);
    }
    for (const id of this.#seen.keys()) if (!leases.some((l) => l.id === id)) this.#seen.delete(id);
    const isOver = (l: LeaseEntry): boolean => over.some((o) => o.id === l.id && o.beats === l.beats);
    const left =
      over.length === 0 ? leases : await change(this.#archive, (all) => all.filter((l) => !isOver(l)));
    return new Set(left.map((l) => l.id));
  }
}

/** Leases as the table has them, dead ones included: for display. */
export const listLeases = async (archive: Archive): Promise<readonly LeaseEntry[]> =>
  (await readTable(archive)).leases;

const readTable = async (archive: Archive): Promise<LeaseTable> =>
  (await archive.readDocument<LeaseTable>('leases', LEASES_OBJECT))?.value ?? {
    archive: archive.id,
    leases: [],
  };

/** Changes the table and returns what it then has. */
const change = async (
  archive: Archive,
  to: (leases: readonly LeaseEntry[]) => readonly LeaseEntry[],
): Promise<readonly LeaseEntry[]> => {
  const forgotten = archive.clock.nowMs() - FORGOTTEN_MS;
  const { leases } = await archive.updateDocument<LeaseTable>('leases', LEASES_OBJECT, (table) => ({
    archive: archive.id,
    leases: to((table?.leases ?? []).filter((l) => l.renewedMs > forgotten)),
  }));
  return leases;
};

const warnProcess = (why: string): void => {
  process.emitWarning(why, { type: 'PitrWarning', code: 'PITR_NO_LEASE' });
};
