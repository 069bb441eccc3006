import type { RestorePlan } from '../plan.ts';
import type { RangeResult } from '../range-job.ts';
import type { Verification } from '../restore.ts';
import type { ClusterFacts } from './cluster-facts.ts';
import type { ClusterMode, ClusterTally, ConflictRule } from './cluster-job.ts';
import type { DefinitionResult } from './definitions.ts';
import type { Hazard } from './hazards.ts';

/** What a restore into a cluster did. */
export interface ClusterReport {
  readonly plan: RestorePlan;
  readonly facts: ClusterFacts;
  readonly place: string;
  readonly mode: ClusterMode | undefined;
  readonly conflict: ConflictRule;
  readonly tally: ClusterTally;
  readonly merged: RangeResult;
  /** Of the whole state at T, before filters. */
  readonly digest: string;
  readonly verification: Verification;
  /** Nothing was written or compared: what came back was looked for. */
  readonly isRecheck: boolean;
  readonly hazards: readonly Hazard[];
  readonly definitions: readonly DefinitionResult[];
  /** Taken over from an interrupted restore; the other numbers are of the whole. */
  readonly resumedRanges: number;
  /** There is one when records were refused. */
  readonly refusedFile: string | undefined;
  readonly stateDir: string;
  readonly durationMs: number;
}

/** Definitions that are not what they were at T. */
export const definitionFaults = ({ definitions }: ClusterReport): readonly DefinitionResult[] =>
  definitions.filter(({ result }) => result === 'refused' || result === 'differs');
