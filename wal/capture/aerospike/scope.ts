import type { AerospikeClient } from '../../../engine/aerospike/client/client.ts';
import type { Timing } from '../../../engine/aerospike/client/timing.ts';
import { PARTITIONS, type PartitionSet, partitionOf } from '../../../engine/partition.ts';
import type { FoundRecord, GoneRecord } from '../found.ts';
import type { Journal } from '../journal.ts';
import { Calendar } from './calendar.ts';
import type { PollCost, PollFindings } from './poll-report.ts';
import type { ServerTime } from './server-time.ts';

export interface PollSettings {
  /** Parts of a namespace that are counted on their own, 1 to 256. Default 16. */
  readonly groups: number;
  /** Groups at a time. Default 4. */
  readonly concurrency: number;
  /** How far the filter goes back behind the last poll's clock, ms. Default 3,000. */
  readonly overlapMs: number;
  /** More changed records than this in a poll are read in one pass, LUTs as windows. Default 200,000. */
  readonly changesMax: number;
  /** Every digest is compared once in this time, ms. Default an hour. */
  readonly sweepMs: number;
  /** How long expired records stay in the index, ms. Default an hour. */
  readonly forgetExpiredMs: number;
}

/** What is known of a namespace from poll to poll. */
export class NamespaceState {
  readonly name: string;
  readonly id: number;
  readonly groups: readonly PartitionSet[];
  readonly calendar = new Calendar();
  /** By partition: S - 1 of the last poll that knows what was there, ms (P6). */
  readonly verifiedMs = new Float64Array(PARTITIONS);
  /** Records that cannot be logged, by digest (P10), and their void times. */
  readonly unrepresentable = new Map<string, { readonly partition: number; readonly voidTimeS: number }>();

  constructor(journal: Journal, name: string, groups: readonly PartitionSet[]) {
    this.name = name;
    this.id = journal.namespaceId(name);
    this.groups = groups;
  }
}

/** Log that waits in memory, bytes and records, beyond which it is made durable before more is read. */
const PENDING_BYTES_MAX = 32 * 1024 * 1024;
const PENDING_RECORDS_MAX = 50_000;

/** The journal while several groups tell it things: it has one caller at a time. */
export class Gate {
  readonly journal: Journal;
  #pendingBytes = 0;
  #pendingRecords = 0;
  #last: Promise<void> = Promise.resolve();

  constructor(journal: Journal) {
    this.journal = journal;
  }

  count(bytes: number): void {
    this.#pendingBytes += bytes;
    this.#pendingRecords++;
  }

  flush(): Promise<void> {
    this.#pendingBytes = 0;
    this.#pendingRecords = 0;
    this.#last = this.#last.then(() => this.journal.flush());
    return this.#last;
  }

  /** Before more is read: what waits is bounded. @throws log-quota, log-full */
  async breathe(): Promise<void> {
    if (this.#pendingBytes < PENDING_BYTES_MAX && this.#pendingRecords < PENDING_RECORDS_MAX) return;
    await this.flush();
    await this.journal.room();
  }
}

/** One namespace in one poll. */
export class Scope {
  readonly client: AerospikeClient;
  readonly gate: Gate;
  readonly timing: Timing;
  readonly settings: PollSettings;
  readonly state: NamespaceState;
  readonly time: ServerTime;
  /** S of the last complete poll, ms. */
  readonly cursorMs: number;
  /** A LUT below this that a row's bound allows is the row's, ms: nothing has been written with it since the row was read. */
  readonly boundedBeforeMs: number;
  /** Another owner gave them up: what it saw last and did not log nobody knows. */
  readonly heldIn: PartitionSet;
  /** What this poll finds to be missed came after this instant, ms. Undefined: nobody knows. */
  readonly missedAfterMs: number | undefined;
  /** Scans can say LUTs. */
  readonly hasLuts: boolean;
  readonly isOnDevice: boolean;
  readonly findings: PollFindings;
  readonly cost: PollCost;
  readonly signal: AbortSignal;

  constructor(parts: ScopeParts) {
    this.client = parts.client;
    this.gate = parts.gate;
    this.timing = parts.timing;
    this.settings = parts.settings;
    this.state = parts.state;
    this.time = parts.time;
    this.cursorMs = parts.cursorMs;
    this.boundedBeforeMs = parts.boundedBeforeMs;
    this.heldIn = parts.heldIn;
    this.missedAfterMs = parts.missedAfterMs;
    this.hasLuts = parts.hasLuts;
    this.isOnDevice = parts.isOnDevice;
    this.findings = parts.findings;
    this.cost = parts.cost;
    this.signal = parts.signal;
  }

  get journal(): Journal {
    return this.gate.journal;
  }

  get namespace(): string {
    return this.state.name;
  }

  /** Changes since then are asked for, ms. */
  get sinceMs(): number {
    return this.cursorMs - this.settings.overlapMs;
  }

  /** Tells the journal what was found; `unread`: what was seen of the record before, and not read. */
  found({ unread, ...record }: FoundNow): void {
    const { namespace, journal, boundedBeforeMs } = this;
    const before = this.#voidTimeS(record.digest);
    journal.found({
      ...record,
      namespace,
      missedAfterMs: this.#missedAfter(unread?.lutMs),
      // it was removed after that, and has come to this generation since
      missedLeast: unread && unread.versions + record.generation - 1,
      foundMs: this.time.latestMs(),
      boundedBeforeMs,
    });
    this.gate.count(record.image.length);
    this.state.calendar.change(partitionOf(record.digest), before, this.#voidTimeS(record.digest));
  }

  /** Tells the journal the LUT of a version that it knows by a bound. */
  learn(digest: Uint8Array, lutMs: number): void {
    if (this.journal.learn(this.namespace, digest, lutMs)) this.gate.count(0);
  }

  /** Tells the journal what is gone; `unread`: what was seen of the record, and not read. False: it did not know of it. */
  gone({ unread, ...record }: GoneNow): boolean {
    const { namespace, journal, heldIn } = this;
    const before = this.#voidTimeS(record.digest);
    const isUnsure = typeof record.when !== 'number' && heldIn.has(partitionOf(record.digest));
    const isLogged = journal.gone({
      ...record,
      namespace,
      missed: Math.max(unread?.versions ?? 0, isUnsure ? 1 : 0),
      missedAfterMs: this.#missedAfter(unread?.lutMs),
      seenMs: unread?.lutMs,
      wasSeen: unread !== undefined,
    });
    this.gate.count(0);
    this.state.calendar.change(partitionOf(record.digest), before, this.#voidTimeS(record.digest));
    return isLogged;
  }

  /** `lutMs`: of the first version that is known to be missed. */
  #missedAfter(lutMs = Number.POSITIVE_INFINITY): number | undefined {
    return this.missedAfterMs !== undefined && this.missedAfterMs < lutMs ? this.missedAfterMs : undefined;
  }

  #voidTimeS(digest: Uint8Array): number {
    return this.journal.row(this.namespace, digest)?.voidTimeS(0) ?? 0;
  }
}

/** Versions of a record that were seen and not read. */
export interface Unread {
  readonly versions: number;
  /** Of the first of them. */
  readonly lutMs: number;
}

interface FoundNow
  extends Omit<FoundRecord, 'namespace' | 'foundMs' | 'missedAfterMs' | 'missedLeast' | 'boundedBeforeMs'> {
  readonly unread?: Unread | undefined;
}

interface GoneNow extends Omit<GoneRecord, 'namespace' | 'missed' | 'missedAfterMs' | 'seenMs' | 'wasSeen'> {
  readonly unread?: Unread | undefined;
}

export interface ScopeParts {
  readonly client: AerospikeClient;
  readonly gate: Gate;
  readonly timing: Timing;
  readonly settings: PollSettings;
  readonly state: NamespaceState;
  readonly time: ServerTime;
  readonly cursorMs: number;
  readonly boundedBeforeMs: number;
  readonly heldIn: PartitionSet;
  readonly missedAfterMs: number | undefined;
  readonly hasLuts: boolean;
  readonly isOnDevice: boolean;
  readonly findings: PollFindings;
  readonly cost: PollCost;
  readonly signal: AbortSignal;
}
