import type { EngineCore } from '../../engine-core.ts';
import { FieldId } from '../field.ts';
import type { MessageView } from '../message.ts';
import { MessageWriter } from '../message-writer.ts';
import { ResultCode } from '../result-code.ts';
import type { Definitions } from './definitions.ts';
import type { Faults } from './faults.ts';
import { isSame } from './image-cursor.ts';
import type { Namespace } from './namespace.ts';
import { QueryJobs } from './query-jobs.ts';

/** Sets whose names are remembered as text. */
const SETS_MAX = 4096;

/** What is served: one engine under the names of its namespaces. All nodes of a server share it. */
export class Database {
  readonly engine: EngineCore;
  readonly namespaces: ReadonlyMap<string, Namespace>;
  readonly definitions: Definitions;
  readonly faults: Faults | undefined;
  readonly jobs = new QueryJobs();
  /** Where a scan encodes what it reads before it is sent: used within one synchronous step only. */
  readonly scratch = new MessageWriter();
  /** When it began to serve, or was restarted by a test. */
  startedMs: number;
  readonly #clock: { nowMs(): number };
  readonly #sets = new Map<string, string>();
  #last: Namespace | undefined;
  #lastSet = Buffer.alloc(0);
  #lastSetText = '';

  constructor(options: {
    engine: EngineCore;
    namespaces: readonly Namespace[];
    definitions: Definitions;
    faults: Faults | undefined;
    clock: { nowMs(): number };
  }) {
    this.engine = options.engine;
    this.namespaces = new Map(options.namespaces.map((n) => [n.name, n]));
    this.definitions = options.definitions;
    this.faults = options.faults;
    this.#clock = options.clock;
    this.startedMs = options.clock.nowMs();
  }

  /** As after a restart: counters and scans are forgotten, and what the fault keeps comes back. Returns how many records. */
  restart(): number {
    this.startedMs = this.nowMs();
    this.jobs.clear();
    for (const namespace of this.namespaces.values()) {
      namespace.counters.clear();
      namespace.forgetSets();
    }
    return this.faults?.graveyard?.rise(this.engine) ?? 0;
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  /** The namespace that a message names; undefined: it is none of these. */
  namespaceIn(m: MessageView): Namespace | undefined {
    const start = m.fieldStart(FieldId.namespace);
    const end = m.fieldEnd(FieldId.namespace);
    if (start === end) return undefined;
    const last = this.#last;
    if (last && isSame(last.nameBytes, 0, last.nameBytes.length, m.bytes, start, end)) return last;
    const found = this.namespaces.get(m.fieldText(FieldId.namespace));
    if (found) this.#last = found;
    return found;
  }

  /** A set's name as text: one string for all of its records. */
  setName(bytes: Buffer, start: number, end: number): string {
    if (isSame(this.#lastSet, 0, this.#lastSet.length, bytes, start, end)) return this.#lastSetText;
    const text = bytes.toString('utf8', start, end);
    const known = this.#sets.get(text);
    if (known === undefined && this.#sets.size < SETS_MAX) this.#sets.set(text, text);
    this.#lastSet = Buffer.from(bytes.subarray(start, end));
    this.#lastSetText = known ?? text;
    return this.#lastSetText;
  }

  /** Why a record of this partition is not to be had; 0: it is. */
  partitionRefusal(partition: number): number {
    if (!this.engine.owns(partition)) return ResultCode.partitionUnavailable;
    return this.faults?.refusal(partition) ?? 0;
  }

  /** Whether a scan can read this partition. */
  hasPartition(partition: number): boolean {
    return this.engine.owns(partition) && !this.faults?.unavailable.has(partition);
  }
}
