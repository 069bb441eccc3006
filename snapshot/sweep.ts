import { isPitrError, PitrError } from '../engine/errors.ts';
import type { Archive } from '../wal/archive.ts';
import type { Archiver } from '../wal/archiver.ts';
import { RETIRE_MS } from '../wal/catalog.ts';
import type { Deletion } from '../wal/held-head.ts';
import { LeaseWatch } from '../wal/lease.ts';
import { giveUpBegun, listBegun, sweepBegun } from './begun.ts';
import { NamedObjects, type Scope } from './named-objects.ts';
import {
  afterLook,
  isLookDue,
  type OrphanTable,
  readOrphanTable,
  SEEN_MAX,
  type SweepRule,
  writeOrphanTable,
} from './orphan-table.ts';
import { type Orphan, scanOrphans } from './orphans.ts';
import { deleteRetired } from './retired.ts';
import { changeIndex } from './snapshot-index.ts';

/** What one sweep did. */
export interface SweepReport {
  readonly deleted: readonly string[];
  readonly bytes: number;
  readonly failed: Deletion['failed'];
  /** Seen to be unnamed, and not for long enough. */
  readonly waiting: number;
  /** Why unfinished uploads and the like could not be looked at, if so. */
  readonly denied: PitrError | undefined;
}

const NOTHING: Deletion = { deleted: [], failed: [] };

/**
 * Deletes what crashes have left behind, of what the agent of one stream looks after: segments of its stream, objects of its
 * timeline's snapshots, probes, and what the store itself has left. Each only after it was seen to be unnamed throughout a
 * margin, and after a publication that makes certain that nothing can still come to name it (snapshot/README.md, K1–K8).
 */
export class Sweeper {
  readonly #archiver: Archiver;
  readonly #archive: Archive;
  readonly #rule: SweepRule;
  readonly #scope: Scope;
  readonly #watch: LeaseWatch;
  readonly #retireMs: number;
  /** One look after the other. */
  #last: Promise<unknown> = Promise.resolve();

  /** `retireMs`: how long the objects of a deleted snapshot stay at least. Default two minutes. */
  constructor(archiver: Archiver, rule: SweepRule, retireMs = RETIRE_MS) {
    this.#archiver = archiver;
    this.#retireMs = retireMs;
    this.#archive = archiver.archive;
    this.#rule = rule;
    const { timeline, stream } = archiver.identity;
    this.#scope = { timeline, stream };
    this.#watch = new LeaseWatch(this.#archive, this.#archive.clock);
  }

  /**
   * One look, and what is due. Undefined: the last look of this stream's agents was a moment ago.
   * @throws fenced; whatever the store throws, after which the next sweep goes on
   */
  sweep(): Promise<SweepReport | undefined> {
    const work = this.#last.then(() => this.#sweep());
    this.#last = work.catch(() => undefined);
    return work;
  }

  async #sweep(): Promise<SweepReport | undefined> {
    const { timeline, stream } = this.#scope;
    const { generation } = this.#archiver.head;
    const nowMs = this.#archive.clock.nowMs();
    const before = await readOrphanTable(this.#archive, timeline, stream);
    this.#assertOurs(before?.value);
    if (before && !isLookDue(before.value, this.#rule, nowMs)) return undefined;
    const retired = await deleteRetired(this.#archive, this.#watch, this.#retireMs);

    const seen = new Set(before?.value.seen.map((s) => s.name));
    const found = new Map<string, Orphan>();
    let free = SEEN_MAX - seen.size;
    const { denied } = await scanOrphans(this.#archive, this.#scope, (orphan) => {
      if (!seen.has(orphan.key) && !found.has(orphan.key) && free-- <= 0) return;
      found.set(orphan.key, orphan);
    });
    const writer = { archive: this.#archive.id, generation };
    const { table, due } = afterLook(
      before?.value,
      [...found.values()].map(({ key, bytes, mark }) => ({
        name: key,
        bytes,
        ...(mark === undefined ? {} : { mark }),
      })),
      nowMs,
      this.#rule,
      writer,
    );
    try {
      await writeOrphanTable(this.#archive, timeline, stream, before?.tag, table);
    } catch (error) {
      if (!isPitrError(error, 'cas-conflict')) throw error;
      // an agent that does not know yet that it has lost the stream, if it is not this one
      this.#assertOurs((await readOrphanTable(this.#archive, timeline, stream))?.value);
      return undefined;
    }

    const done = await this.#delete(due.flatMap((s) => found.get(s.name) ?? []));
    await sweepBegun(this.#archive);
    const report: SweepReport = {
      deleted: [...retired.deleted, ...done.deleted],
      bytes: done.deleted.reduce((n, key) => n + (found.get(key)?.bytes ?? 0), 0),
      failed: [...retired.failed, ...done.failed],
      waiting: found.size - done.deleted.length,
      denied,
    };
    this.#archiver.tell({
      kind: 'swept',
      stream,
      objects: report.deleted.length,
      bytes: report.bytes,
      failed: report.failed.length,
      waiting: report.waiting,
    });
    return report;
  }

  /** @throws fenced when a newer agent has swept already */
  #assertOurs(table: OrphanTable | undefined): void {
    const { stream } = this.#scope;
    const { generation } = this.#archiver.head;
    if (table && table.generation > generation)
      throw new PitrError('fenced', { stream, mine: generation, current: table.generation });
  }

  async #delete(due: readonly Orphan[]): Promise<Deletion> {
    const names = (...classes: Orphan['class'][]): string[] =>
      due.filter((o) => classes.includes(o.class)).map((o) => o.key);
    if (due.length === 0) return NOTHING;
    const all = [
      // first: who has lost the stream deletes nothing
      await this.#archiver.sweep(names('segment')),
      await this.#deleteOfSnapshots(names('snapshot')),
      await this.#giveUp(names('begun')),
      await this.#deleteObjects(names('probe')),
      await this.#removeLeftovers(due),
    ];
    return { deleted: all.flatMap((d) => d.deleted), failed: all.flatMap((d) => d.failed) };
  }

  /** The swap of the index makes every swap fail that was begun before it, and tells makers that manifests may be gone. */
  async #deleteOfSnapshots(names: readonly string[]): Promise<Deletion> {
    if (names.length === 0) return NOTHING;
    const index = await changeIndex(this.#archive, (i) => ({ ...i, sweeps: (i.sweeps ?? 0) + 1 }));
    const named = await NamedObjects.read(this.#archive, this.#scope, index);
    const free: string[] = [];
    for (const name of names.toSorted()) if (!(await named.has(name))) free.push(name);
    return this.#deleteObjects(free);
  }

  async #giveUp(keys: readonly string[]): Promise<Deletion> {
    if (keys.length === 0) return NOTHING;
    const deleted: string[] = [];
    for (const begun of await listBegun(this.#archive)) {
      const key = `begun:${begun.id}`;
      if (keys.includes(key) && (await giveUpBegun(this.#archive, this.#watch, begun))) deleted.push(key);
    }
    return { deleted, failed: [] };
  }

  async #deleteObjects(names: readonly string[]): Promise<Deletion> {
    if (names.length === 0) return NOTHING;
    const failed = await this.#archive.store.delete(names);
    const left = new Set(failed.map((f) => f.name));
    return { deleted: names.filter((name) => !left.has(name)), failed };
  }

  async #removeLeftovers(due: readonly Orphan[]): Promise<Deletion> {
    const leftovers = due.flatMap((o) => o.leftover ?? []);
    if (leftovers.length === 0) return NOTHING;
    const failed = (await this.#archive.store.leftovers?.remove(leftovers)) ?? [];
    const left = new Set(failed.map((f) => f.name));
    return {
      deleted: due.flatMap((o) => (o.leftover && !left.has(o.leftover.id) ? [o.key] : [])),
      failed,
    };
  }
}
