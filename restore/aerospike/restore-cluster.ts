import { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import type { Rate } from '../../engine/aerospike/client/rate-limit.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import { PitrError } from '../../engine/errors.ts';
import { type PartitionRange, PartitionSet } from '../../engine/partition.ts';
import type { ArchiveView } from '../../snapshot/view.ts';
import type { Archive } from '../../wal/archive.ts';
import { sayInexact } from '../inexact.ts';
import { clockOf, planRestore, type RestoreOptions, type RestorePlan, shardsOf } from '../plan.ts';
import type { RangeResult, RestoreJob, runRange } from '../range-job.ts';
import { type RangeHandlers, type RangePool, rangesFor } from '../range-pool.ts';
import { addRanges, noRange } from '../range-totals.ts';
import { checkSource, type Held, leased } from '../restore.ts';
import {
  type ArchivedSet,
  archivedPartitions,
  archivedSets,
  knownSets,
  mergedSets,
  scopesOf,
} from './archived-sets.ts';
import { type ClusterFacts, type NamespaceFacts, readFacts } from './cluster-facts.ts';
import {
  addTallies,
  type ClusterJob,
  type ClusterMode,
  type ClusterTally,
  type ConflictRule,
  faultCount,
  NO_TALLY,
  type Scope,
} from './cluster-job.ts';
import { runClusterRange } from './cluster-range.ts';
import type { ClusterReport } from './cluster-report.ts';
import {
  applyDefinitions,
  compareDefinitions,
  type Definition,
  type DefinitionResult,
  type DefinitionStep,
  definitionsOf,
} from './definitions.ts';
import { explainHazard, type Hazard, hazardsOf } from './hazards.ts';
import { RefusedFile } from './refused-file.ts';
import { type ClusterProgress, RestoreState, type WantedOfCluster } from './restore-state.ts';
import { scanScope } from './scope-scan.ts';

export interface ClusterRestoreOptions extends RestoreOptions {
  /** How the cluster is reached; plain data, since each thread connects by itself. */
  readonly client: ClusterJob['client'];
  /** Its name for people and for the state: hosts without secrets. */
  readonly place: string;
  readonly mode?: ClusterMode;
  readonly conflict?: ConflictRule;
  /** For all threads together. */
  readonly rate?: Rate;
  /** A folder for how far it is. */
  readonly stateDir: (wanted: WantedOfCluster) => string;
  /** Default `refused.jsonl` in the folder of the state. */
  readonly refusedFile?: string;
  /** Nothing is written: what came back since this restore is deleted again. */
  readonly recheck?: boolean;
  /** Definitions that differ are removed and made again. Default false. */
  readonly replaceDefinitions?: boolean;
  /** Of a hazard that does not end the run, before the first write. */
  readonly onHazard?: (hazard: Hazard) => void;
}

/** What a restore into a cluster would do. */
export interface ClusterPlan {
  readonly plan: RestorePlan;
  readonly facts: ClusterFacts;
  readonly scopes: readonly Scope[];
  readonly archived: readonly ArchivedSet[];
  readonly hazards: readonly Hazard[];
  readonly definitions: readonly DefinitionStep[];
  /** Records that the target has of what is in question. */
  readonly occupied: number;
  readonly mode: ClusterMode | undefined;
  readonly conflict: ConflictRule;
}

const BATCH_ROWS = 200;
/** A cluster that is too busy is waited for longer than a caller of one command would. */
const PATIENCE = { attemptsMax: 16, backoff: { firstMs: 20, maxMs: 2000 } };

/** Plans and looks at the target; changes nothing. @throws target-*, aerospike-… */
export const planClusterRestore = async (options: ClusterRestoreOptions): Promise<ClusterPlan> => {
  const client = await AerospikeClient.connect({ ...PATIENCE, ...options.client });
  try {
    const { archive, view, plan } = await planRestore(options);
    return await lookAt(client, archive, view, plan, options);
  } finally {
    await client.close();
  }
};

const lookAt = async (
  client: AerospikeClient,
  archive: Archive,
  view: ArchiveView,
  plan: RestorePlan,
  { mode, conflict = 'overwrite' }: ClusterRestoreOptions,
): Promise<ClusterPlan> => {
  assertFits(plan, mode, conflict);
  const [facts, archived] = await Promise.all([readFacts(client), archivedSets(archive, plan)]);
  const scopes = await scopesOf(archive, plan, archived, (name) => facts.namespaces.has(name));
  if (mode === 'add' && conflict === 'overwrite' && isRekeying(plan)) {
    const merged = await mergedSets(archive, plan);
    if (merged.length > 0)
      throw new PitrError('usage', {
        what: `several sets would become ${merged.join(', ')}, and records with the same key take the place of each other`,
        hint: 'restore one set at a time, or use --conflict keep-existing, which counts those that were kept',
      });
  }
  const known = mode === 'exact' ? await knownSets(archive, view, plan) : undefined;
  const partitions = archivedPartitions(view, plan);
  const hazards = hazardsOf({ facts, scopes, sets: archived, known, partitions, ttl: plan.ttl, mode });
  const occupied = scopes.reduce(
    (n, scope) => n + recordsIn(facts.namespaces.get(scope.namespace), scope),
    0,
  );
  const wanted = definitionsOf(plan.state.definitions, plan.selection, scopes);
  const definitions = await compareDefinitions(client, wanted);
  return { plan, facts, scopes, archived, hazards, definitions, occupied, mode, conflict };
};

/** Records get the digests of the new names of their sets. */
const isRekeying = ({ selection }: RestorePlan): boolean =>
  Object.keys(selection.renameSets ?? {}).length > 0;

/** @throws usage */
const assertFits = (
  { selection }: RestorePlan,
  mode: ClusterMode | undefined,
  conflict: ConflictRule,
): void => {
  const refuse = (what: string, hint: string): never => {
    throw new PitrError('usage', { what, hint });
  };
  if (
    mode === 'exact' &&
    (selection.digests || selection.bins || Object.keys(selection.renameSets ?? {}).length > 0)
  )
    refuse(
      '--mode exact works on namespaces, sets and partitions, not with --key, --digest, --bin or --rename-set',
      'use --mode add',
    );
  if (mode === 'exact' && conflict !== 'overwrite' && conflict !== 'keep-changed')
    refuse(`--mode exact cannot come with --conflict ${conflict}`, 'use overwrite or keep-changed');
};

const recordsIn = (facts: NamespaceFacts | undefined, { sets }: Scope): number => {
  if (!facts) return 0;
  if (!sets) return facts.objects;
  // no server counts records without a set for itself
  return sets.reduce((n, set) => n + (set === '' ? facts.withoutSet : (facts.sets.get(set) ?? 0)), 0);
};

/**
 * Restores into a cluster. An interrupted restore of the same state into the same place is gone on with.
 * @throws target-occupied, target-begun, inexact, restore-hazard, verification-failed, aerospike-…; what a merge throws
 */
export const restoreCluster = (options: ClusterRestoreOptions): Promise<ClusterReport> =>
  leased(options, async (held, pool) => {
    const client = await AerospikeClient.connect({
      ...PATIENCE,
      ...options.client,
      ...(options.rate ? { rate: options.rate } : {}),
    });
    try {
      return await new ClusterRestore({ ...options, ...held }, client, pool).run();
    } finally {
      await client.close();
    }
  });

class ClusterRestore {
  readonly #options: ClusterRestoreOptions & Held;
  readonly #client: AerospikeClient;
  readonly #pool: RangePool;

  constructor(options: ClusterRestoreOptions & Held, client: AerospikeClient, pool: RangePool) {
    this.#options = options;
    this.#client = client;
    this.#pool = pool;
  }

  async run(): Promise<ClusterReport> {
    const started = performance.now();
    const options = this.#options;
    const { view, plan } = await planRestore(options);
    const looked = await lookAt(this.#client, options.archive, view, plan, options);
    const state = RestoreState.open(options.stateDir(wantedOf(looked, options)), wantedOf(looked, options));
    this.#assertMayBegin(looked, state);
    const begun = await this.#begin(state, looked);
    const isRecheck = options.recheck === true;
    const job = this.#jobOf(looked, begun.startedMs);
    // what is to be refused is known before the first write
    if (options.strict || options.onInexact) await sayInexact(options.archive, this.#pool, job, options);
    const refused = new RefusedFile(options.refusedFile ?? `${state.dir}/refused.jsonl`);
    try {
      // a module may be used as soon as records are there; an index is made faster of all of them at once
      const modules = await this.#define(looked, 'udf');
      const { totals, faults } = await this.#ranges(looked, job, state, begun, refused);
      if (faults) throw failedVerification(faults);
      const indexes = await this.#define(looked, 'sindex');
      const verification = checkSource(plan.state, plan.selection, totals);
      // what was deleted, now or before, may come back with every cold start, and then this says since when
      if (looked.mode !== 'exact' || !looked.facts.isCommunity) state.remove();
      else if (!isRecheck) state.finish();
      return {
        plan,
        facts: looked.facts,
        mode: looked.mode,
        conflict: looked.conflict,
        place: options.place,
        tally: totals.cluster ?? NO_TALLY,
        merged: totals,
        digest: ContentDigest.from(totals.stateDigest).total(),
        verification: {
          ...verification,
          target: options.verify === false || isRecheck ? 'not checked' : 'equal',
        },
        isRecheck,
        hazards: looked.hazards,
        definitions: [...modules, ...indexes],
        resumedRanges: begun.ranges,
        refusedFile: refused.isThere || refusedBefore(begun) ? refused.path : undefined,
        stateDir: state.dir,
        durationMs: performance.now() - started,
      };
    } finally {
      refused.close();
    }
  }

  /** @throws restore-hazard, target-occupied, usage */
  #assertMayBegin({ hazards, occupied, scopes, mode }: ClusterPlan, { progress }: RestoreState): void {
    const { recheck, onHazard, place } = this.#options;
    const worst = hazards.find((h) => h.stops);
    if (worst) throw new PitrError('restore-hazard', explainHazard(worst));
    if (recheck && (!progress?.isFinished || mode !== 'exact'))
      throw new PitrError('usage', {
        what: `there is no finished restore of this instant into ${place} to check again`,
        hint: 'give the instant, filters and --mode exact of that restore, and its --state when it had one',
      });
    if (mode === undefined && occupied > 0 && (!progress || progress.isFinished))
      throw new PitrError('target-occupied', {
        what: `${occupied} in ${scopes.flatMap(({ namespace, sets }) => (sets ? sets.map((s) => `${namespace}/${s}`) : [namespace])).join(', ')}`,
      });
    // of keys of maps nothing is known before they are there
    for (const hazard of hazards) if (hazard.kind !== 'map-keys') onHazard?.(hazard);
  }

  /** What is done already: of an interrupted restore, or nothing. */
  async #begin(state: RestoreState, { scopes, facts }: ClusterPlan): Promise<ClusterProgress> {
    const { progress } = state;
    const { recheck, onHazard } = this.#options;
    if (progress && !progress.isFinished) {
      const count = await lostSince(this.#client, scopes, progress);
      if (count === 0) return progress;
      onHazard?.({ kind: 'lost-since', stops: false, count });
      return { ...progress, partitions: 'none', ranges: 0, totals: noRange(1) };
    }
    // one that is finished is done anew, from its own beginning when it is checked again
    const startedMs = recheck && progress ? progress.startedMs : facts.nowS * 1000;
    return { startedMs, partitions: 'none', ranges: 0, totals: noRange(1), isFinished: false };
  }

  async #define({ definitions }: ClusterPlan, what: Definition['what']): Promise<DefinitionResult[]> {
    const { recheck, replaceDefinitions = false } = this.#options;
    if (recheck) return [];
    const steps = definitions.filter(({ definition }) => definition.what === what);
    return applyDefinitions(this.#client, steps, replaceDefinitions);
  }

  #jobOf({ plan, facts, scopes, mode, conflict, occupied }: ClusterPlan, startedMs: number): RestoreJob {
    const { client, rate, recheck = false, verify = true, workers = 1, archive } = this.#options;
    const isRekeyed = isRekeying(plan);
    const cluster: ClusterJob = {
      client: { ...PATIENCE, ...client, rate: shareOf(rate, Math.max(1, workers)) },
      mode,
      // two sets that get one name may have the same key: the second must not take the place of the first unseen
      conflict: mode === undefined && isRekeyed ? 'keep-existing' : conflict,
      scopes,
      clockAheadMs: facts.nowS * 1000 - clockOf(this.#options, archive).nowMs(),
      startedMs,
      verify,
      comparesFirst: mode === 'exact' && occupied > 0 && verify && !recheck,
      recheckOnly: recheck,
      batchRows: facts.batchRowsMax === 0 ? BATCH_ROWS : Math.min(BATCH_ROWS, facts.batchRowsMax),
      durableDeletes: !facts.isCommunity,
    };
    const seconds = Math.floor(startedMs / 1000) - Math.floor(plan.target.ts / 1000);
    return {
      plan: plan.state,
      selection: plan.selection,
      ttl: plan.ttl === 'remaining' ? { mode: 'shift', seconds } : { mode: plan.ttl, seconds: 0 },
      output: 'cluster',
      shards: shardsOf(plan.state),
      cluster,
    };
  }

  async #ranges(
    { occupied }: ClusterPlan,
    job: RestoreJob,
    state: RestoreState,
    begun: ClusterProgress,
    refused: RefusedFile,
  ): Promise<{ totals: RangeResult; faults: ClusterTally | undefined }> {
    const { archive, workers = 1, onProgress, recheck } = this.#options;
    let done = PartitionSet.parse(begun.partitions);
    let totals = begun.ranges === 0 ? noRange(job.shards) : begun.totals;
    let { ranges } = begun;
    let faults: ClusterTally | undefined;
    const wanted = PartitionSet.parse(job.selection.partitions ?? 'all').subtract(done);
    const records = Math.max(occupied, job.plan.versions);
    const todo = withFewer(rangesFor(archive, job.plan, wanted, workers), records);
    const all = ranges + todo.length;
    // checking again leaves the note of what was finished: interrupted, it is begun anew
    const note = (): void => {
      if (recheck) return;
      state.record({
        startedMs: begun.startedMs,
        partitions: done.toString(),
        ranges,
        totals,
        isFinished: false,
      });
    };
    note();
    const here: typeof runRange = (from, wanted, range, emit) =>
      runClusterRange(this.#client, from, wanted, range, emit);
    const handlers: RangeHandlers = {
      onChunk: (lines) => refused.append(lines),
      onRange: (index, result) => {
        const tally = result.cluster ?? NO_TALLY;
        // what is wrong is done again, so it must not be among what is kept
        if (faultCount(tally) > 0) faults = addTallies(faults ?? NO_TALLY, tally);
        else {
          totals = addRanges(totals, result);
          ranges++;
          done = done.union(PartitionSet.of([todo[index]]));
          note();
        }
        onProgress?.({
          phase: 'merge',
          records: totals.cluster?.written ?? 0,
          doneRanges: ranges,
          ranges: all,
        });
      },
    };
    // from here on the target is neither what it was nor what it is to be
    onProgress?.({ phase: 'merge', records: totals.cluster?.written ?? 0, doneRanges: ranges, ranges: all });
    await this.#pool.merge(job, todo, handlers, here);
    return { totals, faults };
  }
}

/** Records of a range, of the state and of the target, that are in memory at once. */
const RANGE_RECORDS_MAX = 200_000;

/** Ranges, cut until each has about so many of `records` at most; a single partition stays whole (C7). */
export const withFewer = (ranges: readonly PartitionRange[], records: number): PartitionRange[] => {
  const partitions = ranges.reduce((n, { start, end }) => n + end - start, 0);
  const step = Math.max(1, Math.floor((RANGE_RECORDS_MAX * partitions) / Math.max(1, records)));
  return ranges.flatMap(({ start, end }) =>
    Array.from({ length: Math.ceil((end - start) / step) }, (_, i) => ({
      start: start + i * step,
      end: Math.min(end, start + (i + 1) * step),
    })),
  );
};

/** Records that ranges which are done had at the target, and that are not there any more: a node in memory may have come back empty. */
const lostSince = async (
  client: AerospikeClient,
  scopes: readonly Scope[],
  { partitions, ranges, totals }: ClusterProgress,
): Promise<number> => {
  if (ranges === 0) return 0;
  const { written, unchanged, kept } = totals.cluster ?? NO_TALLY;
  let there = 0;
  for (const scope of scopes)
    for await (const block of scanScope(client, scope, PartitionSet.parse(partitions), 'none'))
      there += block.length;
  return Math.max(0, written + unchanged + kept - there);
};

const shareOf = (rate: Rate | undefined, workers: number): Rate => ({
  ...(rate?.recordsPerSecond ? { recordsPerSecond: rate.recordsPerSecond / workers } : {}),
  ...(rate?.bytesPerSecond ? { bytesPerSecond: rate.bytesPerSecond / workers } : {}),
});

const refusedBefore = ({ totals }: ClusterProgress): boolean =>
  Object.keys(totals.cluster?.refused ?? {}).length > 0;

const wantedOf = (
  { plan, mode, conflict }: ClusterPlan,
  { archive, place }: ClusterRestoreOptions & Held,
): WantedOfCluster => ({
  archive: archive.id,
  timeline: plan.timeline,
  ts: plan.target.ts,
  selection: plan.selection,
  ttl: plan.ttl,
  mode: mode ?? 'none',
  conflict,
  target: place,
});

const failedVerification = (t: ClusterTally): PitrError => {
  const partitions = PartitionSet.of(t.wrongPartitions.map((p) => ({ start: p, end: p + 1 })));
  return new PitrError('verification-failed', {
    what:
      `of the records read back ${t.missing} are missing, ${t.differing} differ, ${t.foreign} should not be there; ` +
      `partitions ${partitions}, for instance ${t.samples.slice(0, 3).join(', ')}`,
    missing: t.missing,
    differing: t.differing,
    foreign: t.foreign,
    partitions: partitions.toString(),
    digests: t.samples.join(' '),
    hint: 'did somebody write to the target meanwhile? The same command does what is left anew',
  });
};
