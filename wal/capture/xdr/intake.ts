import type { MessageView } from '../../../engine/aerospike/message.ts';
import { ResultCode } from '../../../engine/aerospike/result-code.ts';
import { partitionOf } from '../../../engine/partition.ts';
import type { Rows } from '../index-row.ts';
import type { FoundTruncation, Journal } from '../journal.ts';
import type { Grave, Graves } from './graves.ts';
import type { Owed } from './owed.ts';
import { contentOf, type Recent } from './recent.ts';
import { Shipped, type Unfit } from './shipped.ts';
import type { Unseen } from './unseen.ts';
import type { RefusalCount, XdrCounts } from './xdr-report.ts';

/** Set of the monitors of transactions: no records of anybody (reference: aerospike-wire.md 10.6). */
const MONITOR_SET = '<ERO~MRT';
/** A void time that differs by so much from the last one is that one. */
const VOID_SLACK_S = 1;
/** Kinds of refusals that are told apart. */
const REFUSALS_MAX = 64;

export interface IntakeOptions {
  readonly graves: Graves;
  readonly owed: Owed;
  readonly recent: Recent;
  readonly unseen: Unseen;
}

/**
 * What a change is against what is known of its record (README.md, section "Intake"), and what the journal is told of it. Nothing is durable
 * before the journal has synced.
 */
export class Intake {
  readonly #journal: Journal;
  readonly #graves: Graves;
  readonly #owed: Owed;
  readonly #recent: Recent;
  readonly #unseen: Unseen;
  readonly #shipped = new Shipped();
  readonly #namespaces: ReadonlySet<string>;
  readonly #refusals = new Map<string, { code: number; count: number }>();
  /** Truncations that are in the log: newest cutoff by namespace, or namespace and set. */
  readonly #cutoffs = new Map<string, number>();
  /** Namespaces whose updates may lack bins: see {@link trustUpdates}. */
  readonly #partial = new Set<string>();
  /** Source's clock minus ours, ms: 0 unless they are known to differ. */
  clockOffsetMs = 0;
  readonly counts: XdrCounts = {
    versions: 0,
    deletes: 0,
    duplicates: 0,
    older: 0,
    unknownDeletes: 0,
    deletesWithoutLut: 0,
    truncated: 0,
    leftOut: 0,
    monitors: 0,
    refused: 0,
    retried: 0,
  };

  constructor(journal: Journal, { graves, owed, recent, unseen }: IntakeOptions) {
    this.#journal = journal;
    this.#graves = graves;
    this.#owed = owed;
    this.#recent = recent;
    this.#unseen = unseen;
    this.#namespaces = new Set(journal.source.namespaces);
  }

  get refusals(): RefusalCount[] {
    return [...this.#refusals].map(([why, { code, count }]) => ({ why, code, count }));
  }

  /** Whether updates of a namespace, which do not say that they replace the record, have all of its bins. */
  trustUpdates(namespace: string, isTrusted: boolean): void {
    if (isTrusted) this.#partial.delete(namespace);
    else this.#partial.add(namespace);
  }

  /** A truncation is in the log, or was when it was opened: older writes of what it hides are dropped. */
  truncated({ namespace, set, cutoffLut }: Pick<FoundTruncation, 'namespace' | 'set' | 'cutoffLut'>): void {
    const id = cutoffId(namespace, set);
    this.#cutoffs.set(id, Math.max(this.#cutoffs.get(id) ?? 0, cutoffLut));
  }

  /** Tells the journal; returns the result code of the answer. `nowMs`: our clock when the message was read. */
  take(m: MessageView, nowMs: number): number {
    const s = this.#shipped;
    const unfit = s.read(m);
    if (unfit) return this.#refuse(unfit);
    const { counts } = this;
    if (s.set === MONITOR_SET) {
      counts.monitors++;
      return ResultCode.ok;
    }
    const { digest } = s;
    if (
      !this.#namespaces.has(s.namespace) ||
      !this.#journal.isLogged(s.set) ||
      !this.#journal.partitions.has(partitionOf(digest))
    ) {
      counts.leftOut++;
      return ResultCode.ok;
    }
    if (s.isUpdate && this.#partial.has(s.namespace)) return this.#refuse(PARTIAL);
    if (s.isDelete) this.#delete(s, digest, nowMs);
    else {
      const voidTimeS = s.voidTimeS(nowMs + this.clockOffsetMs);
      if (voidTimeS === undefined) return this.#refuse(TOO_LONG);
      this.#write(s, digest, s.lutMs as number, voidTimeS, nowMs);
    }
    return ResultCode.ok;
  }

  /** A message of which nothing could be read. */
  malformed(code: number, why: string): number {
    return this.#refuse({ code, why });
  }

  #refuse({ code, why }: Unfit): number {
    const s = this.#shipped;
    this.counts.refused++;
    const known = this.#refusals.get(why);
    if (known) known.count++;
    else if (this.#refusals.size < REFUSALS_MAX) this.#refusals.set(why, { code, count: 1 });
    if (s.isNamed && this.#isKept(s))
      this.#owed.add({
        namespace: s.namespace,
        set: s.set,
        digest: s.digest.toString('hex'),
        lutMs: s.lutMs as number,
        why,
      });
    s.isNamed = false;
    return code;
  }

  #isKept(s: Shipped): boolean {
    return (
      this.#namespaces.has(s.namespace) &&
      this.#journal.isLogged(s.set) &&
      this.#journal.partitions.has(partitionOf(s.digest))
    );
  }

  #write(s: Shipped, digest: Buffer, lutMs: number, voidTimeS: number, nowMs: number): void {
    const { namespace, generation } = s;
    const row = this.#journal.row(namespace, digest);
    const grave = row ? undefined : this.#graves.get(namespace, digest);
    const image = s.image();
    const content = contentOf(image);
    // with the same content it was shipped before its delete, else it is a new record in the ms of that
    const isRepeated = grave?.lutMs === lutMs && this.#recent.has(digest, lutMs, generation, content);
    if (row ? isOlder(row, lutMs, generation) : grave && (isRepeated || isBuried(grave, lutMs, generation))) {
      this.#older(namespace, digest, lutMs, generation, row ? row.lutMs(0) : (grave as Grave).lutMs);
      return;
    }
    // what a later state of the record has not brought back
    if (!row && this.#isTruncated(s, lutMs)) {
      this.counts.truncated++;
      return;
    }
    this.#owed.came(namespace, digest, lutMs);
    const { forgottenLutMs } = this.#graves;
    const isVague = !row && !grave && lutMs <= forgottenLutMs && lutMs > this.#journal.frontierTs;
    const isNew = this.#journal.found({
      namespace,
      set: s.set,
      digest,
      generation,
      voidTimeS: row && Math.abs(row.voidTimeS(0) - voidTimeS) <= VOID_SLACK_S ? row.voidTimeS(0) : voidTimeS,
      // it may be older than a delete that nobody remembers
      lut: isVague ? { startMs: lutMs - 1, endMs: forgottenLutMs } : lutMs,
      foundMs: nowMs + this.clockOffsetMs,
      image,
    });
    if (isNew) this.counts.versions++;
    else this.counts.duplicates++;
    this.#recent.add(digest, lutMs, generation, content);
    if (grave && !grave.isLogged && lutMs < grave.lutMs) {
      // its delete came first: now it can be logged
      grave.isLogged = true;
      this.#journal.gone({ namespace, set: s.set, digest, when: grave.lutMs });
      this.#recent.add(digest, grave.lutMs, 0);
      this.counts.deletes++;
    }
  }

  #delete(s: Shipped, digest: Buffer, nowMs: number): void {
    const { namespace, set, lutMs } = s;
    const row = this.#journal.row(namespace, digest);
    const grave = this.#graves.get(namespace, digest);
    if (lutMs === undefined) {
      this.counts.deletesWithoutLut++;
      const endMs = nowMs + this.clockOffsetMs;
      if (row && this.#journal.gone({ namespace, set, digest, when: { startMs: row.lutMs(0), endMs } }))
        this.#bury(namespace, digest, row, endMs, nowMs);
      return;
    }
    if (grave && lutMs <= grave.lutMs) {
      this.counts.duplicates++;
      if (lutMs < grave.lutMs && !this.#recent.has(digest, lutMs, 0))
        this.#unseen.add(namespace, lutMs, grave.lutMs);
      this.#owed.came(namespace, digest, lutMs);
      return;
    }
    if (row && lutMs < row.lutMs(0) && !row.isBase(0)) {
      this.#older(namespace, digest, lutMs, 0, row.lutMs(0));
      return;
    }
    this.#owed.came(namespace, digest, lutMs);
    if (row) this.#journal.gone({ namespace, set, digest, when: lutMs });
    else {
      this.counts.unknownDeletes++;
      // two deletes of a record that is not known: what was between them nobody saw, and the first one goes out of mind
      if (grave && !grave.isLogged) this.#unseen.add(namespace, grave.lutMs, lutMs);
    }
    this.#bury(namespace, digest, row, lutMs, nowMs);
  }

  /** It is not logged. If it was not sent again, history lacks it up to the later one. */
  #older(namespace: string, digest: Buffer, lutMs: number, generation: number, laterMs: number): void {
    this.counts.older++;
    if (!this.#recent.has(digest, lutMs, generation)) this.#unseen.add(namespace, lutMs, laterMs);
  }

  #bury(namespace: string, digest: Buffer, row: Rows | undefined, lutMs: number, nowMs: number): void {
    if (row) {
      this.counts.deletes++;
      this.#recent.add(digest, lutMs, 0);
    }
    const before = this.#graves.get(namespace, digest);
    this.#graves.add(namespace, digest, {
      lutMs,
      generation: row?.generation(0) ?? 0,
      writtenLutMs: row?.lutMs(0) ?? 0,
      isLogged: row !== undefined,
      loggedLutMs: (before?.isLogged ? before.lutMs : before?.loggedLutMs) ?? 0,
      atMs: nowMs,
    });
    this.#graves.prune(nowMs, this.#journal.frontierTs);
  }

  #isTruncated({ namespace, set }: Shipped, lutMs: number): boolean {
    if (this.#cutoffs.size === 0) return false;
    const cutoff = Math.max(
      this.#cutoffs.get(cutoffId(namespace, null)) ?? 0,
      this.#cutoffs.get(cutoffId(namespace, set)) ?? 0,
    );
    return lutMs < cutoff;
  }
}

const PARTIAL: Unfit = {
  code: ResultCode.unsupportedFeature,
  why: 'it may lack bins: bin-policy is not all',
};
const TOO_LONG: Unfit = { code: ResultCode.parameter, why: 'a time to live that is too long' };

const cutoffId = (namespace: string, set: string | null): string =>
  set === null ? namespace : `${namespace}|${set}`;

/** Generations count up to 65535 and go on with 1. */
const isGenerationAfter = (generation: number, known: number): boolean =>
  generation !== known && ((generation - known + 65_536) & 0xffff) < 32_768;

const isOlder = (row: Rows, lutMs: number, generation: number): boolean => {
  if (row.isBase(0)) return false;
  const known = row.lutMs(0);
  if (lutMs !== known) return lutMs < known;
  return generation !== row.generation(0) && !isGenerationAfter(generation, row.generation(0));
};

/** Whether a write belongs before the delete, and is known or lost there. */
const isBuried = (grave: Grave, lutMs: number, generation: number): boolean => {
  if (lutMs > grave.lutMs) return false;
  if (lutMs <= grave.loggedLutMs) return true;
  if (lutMs === grave.writtenLutMs && generation === grave.generation) return true;
  if (lutMs < grave.lutMs) return grave.isLogged;
  return grave.isLogged && generation !== 1;
};
