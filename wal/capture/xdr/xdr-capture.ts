import { setTimeout as sleep } from 'node:timers/promises';
import { AerospikeClient } from '../../../engine/aerospike/client/client.ts';
import type { ClientOptions } from '../../../engine/aerospike/client/client-options.ts';
import { type Clock, systemClock } from '../../../engine/clock.ts';
import { ContentDigest } from '../../../engine/content-digest.ts';
import { isPitrError, PitrError } from '../../../engine/errors.ts';
import { PartitionSet } from '../../../engine/partition.ts';
import type { Journal } from '../journal.ts';
import { XdrListener, type XdrListenerOptions } from './listener.ts';
import {
  bookOf,
  type CounterBook,
  clockOffsetOf,
  endGaps,
  hasRetried,
  judgeReading,
  lossesOf,
  RETRY_QUIET_MS,
  withLosses,
} from './proof.ts';
import { type ConfigFindings, readConfig } from './source-config.ts';
import { readSource, type SourceReading } from './source-reading.ts';
import type { ProofState, XdrGap, XdrReport } from './xdr-report.ts';

const PROOF_MS = 250;
const CONFIG_MS = 60_000;
const MARGIN_MS = 1000;

/** Access to the info of the source: only with it anything beyond the empty base is ever stated. */
export interface XdrSource {
  readonly client: ClientOptions;
  /** Name of the DC that ships here. */
  readonly dc: string;
}

export interface XdrCaptureOptions extends XdrListenerOptions {
  readonly source?: XdrSource;
  /** Between two readings of the source. Default 250. */
  readonly proofMs?: number;
  /** Between two looks at its configuration. Default a minute. */
  readonly configMs?: number;
  /** A write may have its LUT for so long and not be in the source's queue. Default 1,000. */
  readonly marginMs?: number;
  /** Called when frontier, proof, gaps or findings have changed. */
  readonly onReport?: (report: XdrReport) => void;
}

/** What is kept in the index's note, with the frontier that it belongs to. */
interface Kept {
  readonly c0Ts: number;
  readonly startMs: number | undefined;
  readonly counters: CounterBook;
  readonly truncations: Readonly<Record<string, number>>;
  readonly gaps: readonly XdrGap[];
  /** Found once, at the first proof: the base lacks records. */
  readonly lacking: readonly string[];
}

/**
 * Captures what an Enterprise cluster ships into a capture directory: the listener, and the frontier that the source proves (README.md).
 *
 *     const journal = await Journal.open(dir);
 *     const capture = await XdrCapture.start({ journal, port: 3400, source: { client: { hosts }, dc: 'pitr' } });
 *     await capture.close();
 *     await journal.close();
 */
export class XdrCapture {
  readonly listener: XdrListener;
  readonly #journal: Journal;
  readonly #options: XdrCaptureOptions;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  #kept: Kept;
  #client: AerospikeClient | undefined;
  #loop: Promise<void> = Promise.resolve();
  #before: SourceReading | undefined;
  #retriedMs = Number.NEGATIVE_INFINITY;
  #config: ConfigFindings | undefined;
  #configWhy = 'it was not read yet';
  #configMs = Number.NEGATIVE_INFINITY;
  #proof: ProofState;
  /** Stated, and durable. */
  #frontierTs: number;
  #reported = '';

  private constructor(
    options: XdrCaptureOptions,
    listener: XdrListener,
    client: AerospikeClient | undefined,
  ) {
    this.#options = options;
    this.#journal = options.journal;
    this.#clock = options.clock ?? systemClock;
    this.listener = listener;
    this.#client = client;
    this.#kept = options.journal.note.xdr as Kept;
    this.#frontierTs = options.journal.frontierTs;
    const why = options.source ? 'nothing was proven yet' : 'no access to the info of the source';
    this.#proof = this.#kept.startMs === undefined ? { kind: 'unknown', why } : { kind: 'held', why };
    for (const [key, cutoffLut] of Object.entries(this.#kept.truncations))
      listener.intake.truncated({ ...scopeOf(key), cutoffLut });
  }

  /**
   * Begins the history of a new directory, then listens. A source that cannot be reached yet is tried again.
   * @throws aerospike-unsupported from a Community cluster, io when the address cannot be had, usage for a directory of another source
   */
  static async start(options: XdrCaptureOptions): Promise<XdrCapture> {
    const { journal, source, clock = systemClock } = options;
    if (journal.source.kind !== 'xdr')
      throw new PitrError('usage', {
        what: `${journal.dir} captures ${journal.source.url}, nothing that is shipped`,
        hint: 'use another directory; one captures one source',
      });
    const client = source && (await AerospikeClient.connect(source.client).catch(rethrowUnsupported));
    try {
      const first = client && source && (await firstReading(client, source, journal, clock));
      if (journal.frontierTs === 0) {
        const c0Ts = first ? Math.min(...first.map((n) => n.clockMs)) : clock.nowMs();
        const none: Kept = {
          c0Ts,
          startMs: undefined,
          counters: {},
          truncations: {},
          gaps: [],
          lacking: [],
        };
        journal.keep({ xdr: none });
        await journal.loaded(new ContentDigest(journal.identity.shards), c0Ts);
      }
      const capture = new XdrCapture(options, await XdrListener.start(options), client);
      if (source) capture.#loop = capture.#prove(source);
      return capture;
    } catch (error) {
      await client?.close();
      throw error;
    }
  }

  report(): XdrReport {
    const { c0Ts, startMs, gaps, lacking } = this.#kept;
    const inexact = this.#options.source
      ? (this.#config?.inexact ?? [`the source's configuration is not known: ${this.#configWhy}`])
      : ["the source's configuration is not known: no access to its info"];
    return {
      listener: this.listener.report(),
      frontierTs: this.#frontierTs,
      proof: this.#proof,
      history: { c0Ts, startMs },
      inexact: [...inexact, ...lacking],
      gaps: [...gaps, ...this.listener.unseen.gaps],
    };
  }

  /** Stops proving and listening. The journal stays open: its frontier is the last that was proven. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#client?.close();
    await this.#loop;
    await this.listener.close();
  }

  async #prove(source: XdrSource): Promise<void> {
    const { proofMs = PROOF_MS } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#round(source).catch((error) => {
        this.#before = undefined;
        this.#hold(String((error as Error).message));
      });
      this.#tell();
      await sleep(proofMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #round(source: XdrSource): Promise<void> {
    this.#client ??= await AerospikeClient.connect(source.client);
    await this.#readConfig(this.#client, source.dc);
    const { namespaces } = this.#journal.source;
    const reading = await readSource(this.#client, source.dc, namespaces, this.#clock);
    if (this.#stop.signal.aborted) return;
    this.listener.intake.clockOffsetMs = clockOffsetOf(reading);
    await this.listener.between(() => this.#judge(reading));
  }

  /** Between two turns: everything that was acknowledged up to here is durable. */
  async #judge(reading: SourceReading): Promise<void> {
    const { listener } = this;
    const before = this.#before;
    this.#before = reading;
    if (hasRetried(reading, before)) this.#retriedMs = this.#clock.nowMs();
    this.#noteLosses(reading);
    const verdict = judgeReading(reading, {
      before,
      retriedMs: this.#retriedMs,
      isQuiet: listener.isQuiet(RETRY_QUIET_MS),
      isClear: listener.owed.isClear,
    });
    if ('why' in verdict) return this.#hold(verdict.why);
    const ts = verdict.clockMs - (this.#options.marginMs ?? MARGIN_MS);
    if (ts > this.#journal.frontierTs) await this.#state(ts, reading, before as SourceReading);
    if (this.#kept.startMs !== undefined) this.#proof = { kind: 'proven' };
  }

  /** What counters say that was lost since the last proof; before the first one there is no history to lose from. */
  #noteLosses(reading: SourceReading): void {
    if (this.#kept.startMs !== undefined) {
      const losses = lossesOf(reading, this.#kept.counters);
      this.#keep({ gaps: withLosses(this.#kept.gaps, losses, this.#journal.frontierTs) });
    }
    // what is not there now may come back with its counters
    this.#keep({ counters: { ...this.#kept.counters, ...bookOf(reading) } });
  }

  async #state(ts: number, reading: SourceReading, before: SourceReading): Promise<void> {
    this.#tellTruncations(reading, before);
    // false: the digests cannot say so little yet
    if (!(await this.#journal.state(ts))) return;
    this.#frontierTs = ts;
    const { gaps, startMs } = this.#kept;
    if (startMs === undefined) this.#keep({ startMs: ts, lacking: this.#lacking(reading) });
    // kept with the next flush; until then a crash makes a gap longer, and history begin later
    this.#keep({ gaps: endGaps(gaps, ts) });
  }

  /** Truncations that are new in this reading: they came after the one before, or, without one, at any time. */
  #tellTruncations(reading: SourceReading, before: SourceReading): void {
    const { namespaces, sets } = this.#journal.source;
    const endMs = Math.max(...reading.map((n) => n.clockMs)) + 1000;
    for (const { truncations } of reading)
      for (const [key, cutoffLut] of truncations) {
        if (cutoffLut <= (this.#kept.truncations[key] ?? 0)) continue;
        this.#keep({ truncations: { ...this.#kept.truncations, [key]: cutoffLut } });
        const scope = scopeOf(key);
        if (!namespaces.includes(scope.namespace)) continue;
        if (scope.set !== null && sets !== null && !sets.includes(scope.set)) continue;
        const wasThere = before.some((n) => n.truncations.get(key) === cutoffLut);
        const seenMs = wasThere ? this.#journal.frontierTs : Math.min(...before.map((n) => n.clockMs));
        this.#journal.truncated({
          ...scope,
          cutoffLut,
          when: { startMs: Math.max(seenMs, cutoffLut), endMs: Math.max(endMs, cutoffLut) },
        });
        this.listener.intake.truncated({ ...scope, cutoffLut });
      }
  }

  /** Whether the source has records that were never shipped: only where all of them are captured. */
  #lacking(reading: SourceReading): string[] {
    const { source, partitions, index } = this.#journal;
    if (source.sets !== null || !partitions.equals(PartitionSet.all)) return [];
    return source.namespaces.flatMap((namespace) => {
      const there = reading.reduce((n, { shipping }) => n + (shipping.get(namespace)?.objects ?? 0), 0);
      const here = index.countAll(this.#journal.namespaceId(namespace));
      return here >= there
        ? []
        : [`${namespace}: the source has ${there} records, ${here} were shipped: was rewind=all given?`];
    });
  }

  async #readConfig(client: AerospikeClient, dc: string): Promise<void> {
    const { namespaces } = this.#journal.source;
    if (performance.now() - this.#configMs < (this.#options.configMs ?? CONFIG_MS)) return;
    try {
      this.#config = await readConfig(client, dc, namespaces);
    } catch (error) {
      this.#configWhy = String((error as Error).message);
      throw error;
    }
    this.#configMs = performance.now();
    for (const namespace of namespaces)
      this.listener.intake.trustUpdates(namespace, !this.#config.partial.has(namespace));
  }

  #hold(why: string): void {
    this.#proof = { kind: this.#kept.startMs === undefined ? 'unknown' : 'held', why };
  }

  #keep(changes: Partial<Kept>): void {
    this.#kept = { ...this.#kept, ...changes };
    this.#journal.keep({ xdr: this.#kept });
  }

  #tell(): void {
    const { onReport } = this.#options;
    if (!onReport || this.#stop.signal.aborted) return;
    const report = this.report();
    const { frontierTs, proof, inexact, gaps } = report;
    const text = JSON.stringify([frontierTs, proof, inexact, gaps]);
    if (text === this.#reported) return;
    this.#reported = text;
    onReport(report);
  }
}

const scopeOf = (key: string): { namespace: string; set: string | null } => {
  const bar = key.indexOf('|');
  return bar < 0 ? { namespace: key, set: null } : { namespace: key.slice(0, bar), set: key.slice(bar + 1) };
};

/** A Community cluster never ships: that is an error of who started this. Anything else may pass. */
const rethrowUnsupported = (error: unknown): undefined => {
  if (isPitrError(error, 'aerospike-unsupported')) throw error;
  return undefined;
};

const firstReading = (
  client: AerospikeClient,
  { dc }: XdrSource,
  journal: Journal,
  clock: Clock,
): Promise<SourceReading | undefined> =>
  readSource(client, dc, journal.source.namespaces, clock).catch(rethrowUnsupported);
