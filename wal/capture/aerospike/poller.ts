import type { AerospikeClient } from '../../../engine/aerospike/client/client.ts';
import { isBuildAtLeast } from '../../../engine/aerospike/client/cluster-node.ts';
import { systemTiming, type Timing } from '../../../engine/aerospike/client/timing.ts';
import { PitrError } from '../../../engine/errors.ts';
import { PartitionSet } from '../../../engine/partition.ts';
import type { Journal, LookFrom } from '../journal.ts';
import { Clocks } from './clocks.ts';
import type { Cutoffs } from './definitions.ts';
import { clockDoubts, doubtsOf, type Seen, seenOf, waitsOf } from './doubt.ts';
import { forgetExpired } from './forget.ts';
import { askCutoffs, type Look, lookAt } from './look.ts';
import { compareTruncated, newCutoffs, readDefinitions, tellCutoffs, tellDefinitions } from './metadata.ts';
import { groupsOf, pollNamespace } from './namespace-poll.ts';
import { noCost, noFindings, type PollFindings, type PollReport } from './poll-report.ts';
import { Gate, NamespaceState, type PollSettings, Scope } from './scope.ts';
import type { ServerTime } from './server-time.ts';
import { SweepTurn } from './sweep-turn.ts';

export interface PollerOptions extends Partial<PollSettings> {
  /** Of the client. */
  readonly timing?: Timing;
}

const DEFAULTS: PollSettings = {
  groups: 16,
  concurrency: 4,
  overlapMs: 3000,
  changesMax: 200_000,
  sweepMs: 3_600_000,
  forgetExpiredMs: 3_600_000,
};

/** The first build whose scans can say LUTs. */
const LUT_BUILD = [8, 1, 2, 0];
/** What a clock of whole seconds may be behind itself, ms. */
const COARSE_MS = 1000;
const NONE = PartitionSet.none.toString();
/** Under which name the journal keeps what a poller wants to find again. */
const NOTE = 'aerospike';

/** How often a poll begins anew because of truncations. */
const ATTEMPTS_MAX = 5;

/**
 * A truncation came while a poll was under way. The journal must hear of it before anything that was seen after it, and after all that was seen
 * before: so the poll begins anew.
 */
class TruncatedMeanwhile extends PitrError {
  constructor() {
    super('interrupted', { what: 'the poll, by a truncation' });
  }
}

/** What survives a restart of the capture. */
interface Note {
  /** False: a base copy was begun at {@link cursorMs} and no poll is complete yet. */
  readonly isRunning: boolean;
  /** No node's clock was after this when the copy had been read: the first frontier is not before. Absent: 0. */
  readonly copiedByMs?: number;
  readonly cursorMs: number;
  /** Not later than the last look of a complete poll, by the server's clock. */
  readonly lookedMs: number;
  readonly seen: Seen;
  readonly hasWaited: boolean;
  /** Partitions that another owner gave up and that have not been compared yet. */
  readonly heldIn: string;
  readonly cutoffs: Readonly<Record<string, number>>;
  /** Fingerprints by key. Absent: nobody has looked. */
  readonly definitions?: Readonly<Record<string, string>>;
  /** By namespace: the least of its partitions. */
  readonly verifiedMs: Readonly<Record<string, number>>;
}

/** What a poll begins with. */
interface Beginning {
  readonly look: Look;
  readonly time: ServerTime;
  readonly seen: Seen;
  readonly lookedMs: number;
  readonly clusterKey: string | undefined;
}

/**
 * Looks at a cluster and tells the journal what has changed (README.md). One poll at a time.
 *
 *     const poller = new Poller(client, journal);
 *     const { clockMs } = await poller.prepare();
 *     // the base copy; then journal.loaded(digest, clockMs)
 *     const report = await poller.poll();
 */
export class Poller {
  readonly #client: AerospikeClient;
  readonly #journal: Journal;
  readonly #gate: Gate;
  readonly #timing: Timing;
  readonly #settings: PollSettings;
  readonly #namespaces: readonly string[];
  readonly #partitions: readonly number[];
  readonly #clocks: Clocks;
  readonly #turn: SweepTurn;
  #states: readonly NamespaceState[] = [];
  #note: Note | undefined;
  /** Of the last complete poll of this process. */
  #before: Beginning | undefined;
  /** For definitions: the counters with which they were read last. */
  #counters: Look['counters'];
  #marks: readonly string[] = [];
  /** Of {@link copied}, our clock. */
  #copiedAtMs: number | undefined;
  #isBusy = false;

  constructor(client: AerospikeClient, journal: Journal, options: PollerOptions = {}) {
    const { timing = systemTiming, ...settings } = options;
    this.#client = client;
    this.#journal = journal;
    this.#gate = new Gate(journal);
    this.#timing = timing;
    this.#settings = { ...DEFAULTS, ...settings };
    this.#namespaces = journal.source.namespaces;
    this.#partitions = journal.partitions.ranges.flatMap(({ start, end }) =>
      Array.from({ length: end - start }, (_, i) => start + i),
    );
    this.#clocks = new Clocks(client, journal, timing, this.#partitions);
    this.#turn = new SweepTurn(this.#partitions, this.#settings.sweepMs);
    this.#note = journal.note[NOTE] as Note | undefined;
  }

  /** A base copy has to be made, or made anew, before there is anything to poll for. */
  get needsCopy(): boolean {
    return this.#journal.frontierTs === 0 || this.#note === undefined;
  }

  /** Looks at the cluster before a base copy: what is written from `clockMs` on is found by the first poll after it. @throws aerospike-… */
  async prepare(): Promise<{ readonly clockMs: number }> {
    const { look, time, seen, lookedMs } = await this.#begin();
    const cursorMs = time.ms - 1;
    this.#note = {
      isRunning: false,
      cursorMs,
      lookedMs,
      seen,
      hasWaited: false,
      heldIn: NONE,
      cutoffs: Object.fromEntries(look.cutoffs),
      verifiedMs: {},
    };
    this.#before = undefined;
    this.#states = [];
    this.#journal.keep({ [NOTE]: this.#note });
    await this.#journal.flush();
    return { clockMs: cursorMs };
  }

  /** The base copy has been read to its end, now: no record of it is newer. Left out, it is taken to have ended when the first poll began. */
  copied(): void {
    this.#copiedAtMs = this.#timing.nowMs();
  }

  /** Marks that the next poll states, at its frontier, in place of those that it was told before. */
  mark(names: readonly string[]): void {
    this.#marks = names;
  }

  /**
   * One poll. When it fails the frontier stays, and the next one finds what this one did not.
   * @throws usage: no base copy is loaded; aerospike-…, log-…
   */
  async poll(signal: AbortSignal = new AbortController().signal): Promise<PollReport> {
    if (this.#isBusy) throw new PitrError('usage', { what: 'a poll is under way' });
    this.#isBusy = true;
    try {
      // what a poll that failed has told, perhaps another poller's: counts go by what is stored
      if (!this.#journal.isFlushed) await this.#gate.flush();
      for (let attempt = 1; ; attempt++)
        try {
          return await this.#poll(signal);
        } catch (error) {
          if (!(error instanceof TruncatedMeanwhile) || attempt === ATTEMPTS_MAX) throw error;
          await this.#gate.flush();
        }
    } finally {
      this.#isBusy = false;
    }
  }

  async #poll(signal: AbortSignal): Promise<PollReport> {
    const startedMs = this.#timing.nowMs();
    const marks = this.#marks;
    const begun = await this.#begin();
    const { look, time, seen, lookedMs } = begun;
    const findings = noFindings();
    const cost = noCost();
    this.#note ??= this.#firstNote(begun);
    this.#beginStates(this.#note);
    const cameFrom = this.#journal.lookFrom();
    const hadWaited = this.#note.hasWaited;
    if (cameFrom) this.#lookFrom(cameFrom);
    const note: Note = { ...this.#note, hasWaited: hadWaited };
    this.#journal.aim(time.ms - 1);
    const doubts = this.#doubts(note, begun);
    // nobody watched them from the release on
    if (cameFrom || note.heldIn !== NONE) doubts.push('partitions have come from another capture');
    const waitsFor = waitsOf(look, this.#client.clusterKey);
    const tally = { ...this.#journal.tally };
    const report = (isStated: boolean, copyAgain?: string): PollReport => ({
      ...findings,
      versions: this.#journal.tally.versions - tally.versions,
      late: this.#journal.tally.late - tally.late,
      missed: this.#journal.tally.missed - tally.missed,
      serverMs: time.ms,
      isClockExact: time.isExact,
      frontierMs: this.#journal.frontierTs,
      isStated,
      waitsFor,
      doubts,
      copyAgain,
      limits: this.#limits(look),
      elapsedMs: this.#timing.nowMs() - startedMs,
      cost,
      cpuPercent: cpuOf(look),
    });
    if (!note.isRunning) {
      const truncated = newCutoffs(note.cutoffs, look.cutoffs).map(([key]) => `${key} was truncated`);
      const why = [...truncated, ...doubtsOf(note.seen, seen)].join('; ');
      if (why !== '') return report(false, why);
    }
    const copiedByMs = note.isRunning ? (note.copiedByMs ?? 0) : time.latestMs(this.#copiedAtMs ?? startedMs);
    const isHeld = waitsFor.length > 0;
    await this.#journal.room();
    // in doubt a version may be back, or have come from another half of the cluster, that was replaced unseen before the last poll
    const isSure = !isHeld && doubts.length === 0;
    const scopes = this.#scopes(note, begun, isSure, findings, cost, signal);
    await this.#truncate(note, scopes, look.cutoffs);
    const { giving } = this.#journal;
    const verified = this.#states.map(({ verifiedMs }) => verifiedMs.slice());
    const mode = isHeld ? 'changes' : doubts.length > 0 ? 'everything' : 'counts';
    const due = mode === 'counts' ? this.#turn.take(startedMs).union(giving) : PartitionSet.none;
    for (const scope of scopes) {
      await pollNamespace(scope, { mode, due, lookAgain: () => this.#lookAgain() });
      if (!isHeld) findings.forgotten += await forgetExpired(scope);
    }
    findings.definitions = await this.#define(note, begun);
    findings.unrepresentable = scopes.reduce((n, { state }) => n + state.unrepresentable.size, 0);
    findings.evicted = evictedBetween(this.#before?.look, look);
    if (!isHeld && this.#hasChanged(begun)) waitsFor.push('the cluster changed during the poll');
    const hasWaited = waitsFor.length > 0;
    const ts = time.ms - 1;
    const behindMs = Math.max(this.#journal.frontierTs + 1, copiedByMs) - 1 - ts;
    // a clock that says whole seconds is often at or behind what it said in ms: the next poll is ahead
    const isBehind = !hasWaited && behindMs >= 0;
    if (isBehind && (time.isExact || behindMs > COARSE_MS))
      waitsFor.push(`the clock is ${behindMs} ms behind the frontier`);
    // of partitions that go, what was found above this frontier is in no log
    if (waitsFor.length > 0 || isBehind) this.#takeBack(giving, verified);
    this.#keep(
      hasWaited ? {} : { isRunning: true, copiedByMs, cursorMs: time.ms, lookedMs, seen, heldIn: NONE },
      hasWaited,
    );
    await this.#gate.flush();
    const isStated = waitsFor.length === 0 && !isBehind && (await this.#journal.state(ts, marks));
    if (isStated && this.#marks === marks) this.#marks = [];
    if (!isStated && waitsFor.length === 0 && !isBehind)
      waitsFor.push('more instants are open above the frontier than can be kept apart');
    if (!hasWaited) this.#before = begun;
    return report(isStated);
  }

  /**
   * Partitions have come that nobody watched since `ms`. Which they are does not matter: everything is compared now. Stored together with
   * that it was asked for, so that whoever goes on after a failure or a kill begins there, and in doubt.
   */
  #lookFrom(came: LookFrom): void {
    const { ms } = came;
    for (const { verifiedMs } of this.#states)
      for (let p = 0; p < verifiedMs.length; p++) verifiedMs[p] = Math.min(verifiedMs[p], ms);
    const { cursorMs = ms, lookedMs = ms, heldIn = NONE } = this.#note ?? {};
    const all = PartitionSet.parse(heldIn).union(PartitionSet.parse(came.heldIn));
    this.#keep(
      { cursorMs: Math.min(cursorMs, ms), lookedMs: Math.min(lookedMs, ms), heldIn: all.toString() },
      true,
    );
  }

  /** Of these partitions that is verified which was so before the poll. */
  #takeBack(partitions: PartitionSet, before: readonly Float64Array[]): void {
    for (const [i, { verifiedMs }] of this.#states.entries())
      for (const { start, end } of partitions.ranges) verifiedMs.set(before[i].subarray(start, end), start);
  }

  #beginStates(note: Note): void {
    if (this.#states.length > 0) return;
    this.#states = this.#namespaces.map((name) => {
      const groups = groupsOf(this.#journal.partitions, this.#settings.groups);
      const state = new NamespaceState(this.#journal, name, groups);
      state.verifiedMs.fill(note.verifiedMs[name] ?? note.cursorMs);
      return state;
    });
  }

  /** Whether other nodes may have been asked than those whose clocks were read. */
  #hasChanged({ look, clusterKey }: Beginning): boolean {
    const ids = this.#client.nodes.map(({ id }) => id);
    const isSame = ids.length === look.nodes.size && ids.every((id) => look.nodes.has(id));
    return !isSame || clusterKey !== this.#client.clusterKey;
  }

  /** Look and clock, in this order: the clock's whole seconds are in the look. */
  async #begin(): Promise<Beginning> {
    const look = await lookAt(this.#client, this.#timing, this.#namespaces, this.#before?.look);
    const { clusterKey } = this.#client;
    const time = await this.#clocks.read(look);
    const lookedAtMs = Math.min(...[...look.nodes.values()].map(({ askedAtMs }) => askedAtMs));
    const lookedMs = time.ms - Math.ceil(this.#timing.nowMs() - lookedAtMs) - 1;
    return { look, time, seen: seenOf(look, time), lookedMs, clusterKey };
  }

  /** Of a journal that was loaded without {@link prepare}: what is there now is what there was. */
  #firstNote({ look, seen, lookedMs }: Beginning): Note {
    if (this.#journal.frontierTs === 0)
      throw new PitrError('usage', { what: 'no base copy is loaded', hint: 'prepare, copy, then poll' });
    return {
      isRunning: true,
      cursorMs: this.#journal.frontierTs,
      lookedMs,
      seen,
      hasWaited: false,
      heldIn: NONE,
      cutoffs: Object.fromEntries(look.cutoffs),
      verifiedMs: {},
    };
  }

  #doubts(note: Note, { time, seen }: Beginning): string[] {
    const doubts = doubtsOf(note.seen, seen);
    if (this.#before) doubts.push(...clockDoubts(this.#before.time, time));
    if (note.hasWaited) doubts.push('the last poll waited');
    return doubts;
  }

  #scopes(
    note: Note,
    { look, time }: Beginning,
    isSure: boolean,
    findings: PollFindings,
    cost: Scope['cost'],
    signal: AbortSignal,
  ): Scope[] {
    const cursorMs = Math.min(note.cursorMs, time.ms);
    // in doubt an older version may be back, which a bound allows as well
    const boundedBeforeMs = isSure && this.#before ? Math.min(cursorMs, time.since(this.#before.time)) : 0;
    return this.#states.map(
      (state) =>
        new Scope({
          client: this.#client,
          gate: this.#gate,
          timing: this.#timing,
          settings: this.#settings,
          state,
          time,
          cursorMs,
          boundedBeforeMs,
          heldIn: PartitionSet.parse(note.heldIn),
          missedAfterMs: isSure ? cursorMs - 1 : undefined,
          hasLuts: this.#hasLuts,
          isOnDevice: look.onDevice.has(state.name),
          findings,
          cost,
          signal,
        }),
    );
  }

  get #hasLuts(): boolean {
    return this.#client.nodes.every(({ build }) => isBuildAtLeast(build, LUT_BUILD));
  }

  #limits(look: Look): string[] {
    const limits: string[] = [];
    if (!this.#hasLuts)
      limits.push(`scans of builds before ${LUT_BUILD.join('.')} do not say last updates: each costs a read`);
    const others = [...this.#client.namespaces].filter((n) => !this.#namespaces.includes(n)).sort();
    if (others.length > 0) limits.push(`namespaces that are not captured: ${others.join(', ')}`);
    if (!look.counters)
      limits.push('this build has no counters of metadata changes: it is asked for in every poll');
    return limits;
  }

  /** Logs cutoffs that are new (P7), then compares what they are about. */
  async #truncate(note: Note, scopes: readonly Scope[], cutoffs: Cutoffs): Promise<void> {
    const found = newCutoffs(note.cutoffs, cutoffs);
    tellCutoffs(scopes, found, note.lookedMs);
    if (found.length === 0 && Object.keys(note.cutoffs).length === cutoffs.size) return;
    this.#keep({ cutoffs: Object.fromEntries(cutoffs) });
    if (found.length === 0) return;
    await this.#gate.flush();
    await compareTruncated(scopes, found);
    // counts go by what is stored
    await this.#gate.flush();
  }

  /** @throws TruncatedMeanwhile */
  async #lookAgain(): Promise<void> {
    const cutoffs = await askCutoffs(this.#client, this.#namespaces);
    if (newCutoffs(this.#note?.cutoffs ?? {}, cutoffs).length > 0) throw new TruncatedMeanwhile();
  }

  /** Logs definitions that have changed; returns how many. */
  async #define(note: Note, { look: { counters }, time }: Beginning): Promise<number> {
    const known = this.#counters;
    const isSame = ['sindex', 'UDF'].every((module) => counters?.get(module) === known?.get(module));
    if (counters && known && isSame) return 0;
    const definitions = await readDefinitions(this.#client, this.#namespaces);
    // what is there when it is looked at first belongs to the copy
    const ts = Math.max(this.#journal.frontierTs + 1, note.definitions ? time.ms : 0);
    const { now, told } = tellDefinitions(this.#journal, note.definitions ?? {}, definitions, ts);
    this.#counters = counters;
    this.#keep({ definitions: now });
    return told;
  }

  #keep(changes: Partial<Note>, hasWaited?: boolean): void {
    if (!this.#note) return;
    this.#note = {
      ...this.#note,
      ...changes,
      hasWaited: hasWaited ?? this.#note.hasWaited,
      verifiedMs: Object.fromEntries(
        this.#states.map(({ name, verifiedMs }) => [
          name,
          this.#partitions.reduce((least, p) => Math.min(least, verifiedMs[p]), Number.POSITIVE_INFINITY),
        ]),
      ),
    };
    this.#journal.keep({ [NOTE]: this.#note });
  }
}

const cpuOf = (look: Look): ReadonlyMap<string, number> =>
  new Map(
    [...look.nodes].flatMap(([id, { cpuPercent }]) =>
      cpuPercent === undefined ? [] : [[id, cpuPercent] as const],
    ),
  );

const evictedBetween = (before: Look | undefined, now: Look): number => {
  let evicted = 0;
  for (const [id, node] of now.nodes) {
    const known = before?.nodes.get(id);
    if (known && known.uptimeS <= node.uptimeS) evicted += Math.max(0, node.evicted - known.evicted);
  }
  return evicted;
};
