import type { PartitionSet } from '../../engine/partition.ts';
import type { TtlMode } from '../plan.ts';
import type { ArchivedSet } from './archived-sets.ts';
import type { ClusterFacts, NamespaceFacts } from './cluster-facts.ts';
import type { ClusterMode, Scope } from './cluster-job.ts';
import { setRefusal } from './range-load.ts';

/**
 * What will go wrong, known before the first write. `stops`: nothing, or nearly nothing, could be restored, so nothing is begun. The others
 * cost some records, which are then refused one by one, or are worth knowing.
 */
export type Hazard =
  | { readonly kind: 'namespace-missing'; readonly stops: true; readonly namespace: string }
  | { readonly kind: 'stop-writes'; readonly stops: true; readonly namespace: string }
  | { readonly kind: 'clock-skew'; readonly stops: true; readonly namespace: string }
  | {
      readonly kind: 'partitions-missing';
      readonly stops: true;
      readonly namespace: string;
      readonly count: number;
    }
  | {
      readonly kind: 'never-archived';
      readonly stops: true;
      readonly namespace: string;
      readonly set: string;
      readonly count: number;
    }
  | {
      readonly kind: 'nothing-archived';
      readonly stops: false;
      /** Of the two the one that was chosen in vain, under the name that it gets. */
      readonly namespace?: string;
      readonly set?: string;
    }
  | {
      readonly kind: 'partitions-not-archived';
      /** Nothing is deleted there by other modes. */
      readonly stops: boolean;
      readonly partitions: PartitionSet;
      readonly archived: PartitionSet;
    }
  | {
      readonly kind: 'set-name';
      readonly stops: false;
      readonly namespace: string;
      readonly set: string;
      readonly why: string;
    }
  | {
      readonly kind: 'too-many-sets';
      readonly stops: false;
      readonly namespace: string;
      readonly count: number;
    }
  | { readonly kind: 'ttl-refused'; readonly stops: false; readonly namespace: string }
  | { readonly kind: 'migrations'; readonly stops: false; readonly namespace: string; readonly count: number }
  /** Found when an interrupted restore is gone on with. */
  | { readonly kind: 'lost-since'; readonly stops: false; readonly count: number }
  | { readonly kind: 'deletes-return'; readonly stops: false }
  | { readonly kind: 'strong-consistency'; readonly stops: false; readonly namespace: string }
  | {
      readonly kind: 'large-records';
      readonly stops: false;
      readonly namespace: string;
      readonly bytesMax: number;
    }
  | { readonly kind: 'map-keys'; readonly stops: false };

/** Sets that a namespace of a server can have. */
const SETS_MAX = 4095;
/** What our own limit on records is no more than. */
const RECORD_BYTES_USUAL = 1024 * 1024;

export interface HazardInput {
  readonly facts: ClusterFacts;
  readonly scopes: readonly Scope[];
  /** What the archive has, under the names that it gets. */
  readonly sets: readonly ArchivedSet[];
  /** Of an exact restore: what the archive has ever had, as `namespace/set`. */
  readonly known: ReadonlySet<string> | undefined;
  /** Partitions in question, and those of them that the history has at the instant. */
  readonly partitions: { readonly wanted: PartitionSet; readonly archived: PartitionSet };
  readonly ttl: TtlMode;
  readonly mode: ClusterMode | undefined;
}

export const hazardsOf = ({ facts, scopes, sets, known, partitions, ttl, mode }: HazardInput): Hazard[] => {
  const hazards: Hazard[] = [];
  const { wanted, archived } = partitions;
  const missing = wanted.subtract(archived);
  if (missing.size > 0)
    hazards.push({
      kind: 'partitions-not-archived',
      stops: mode === 'exact',
      partitions: missing,
      archived,
    });
  hazards.push(...nothingArchived(scopes, sets));
  for (const { namespace, sets: chosen } of scopes) {
    const found = facts.namespaces.get(namespace);
    const mine = sets.filter((s) => s.namespace === namespace);
    if (found && known) hazards.push(...neverArchived(found, chosen, known));
    if (found) hazards.push(...namespaceHazards(found, mine, ttl));
    else hazards.push({ kind: 'namespace-missing', stops: true, namespace });
  }
  if (mode === 'exact' && facts.isCommunity) hazards.push({ kind: 'deletes-return', stops: false });
  if (sets.some((s) => s.versions > 0) && facts.builds.some((b) => Number.parseInt(b, 10) >= 8))
    hazards.push({ kind: 'map-keys', stops: false });
  return hazards;
};

/** Names that were chosen and have no version up to the instant: misspelt, perhaps. */
const nothingArchived = (scopes: readonly Scope[], sets: readonly ArchivedSet[]): Hazard[] => {
  const there = sets.filter((s) => s.versions > 0);
  const namespaces = scopes
    .filter((scope) => !there.some((s) => s.namespace === scope.namespace) && !scope.sets)
    .map(({ namespace }): Hazard => ({ kind: 'nothing-archived', stops: false, namespace }));
  const chosen = new Set(scopes.flatMap((scope) => scope.sets ?? []));
  const named = [...chosen]
    .filter((set) => !there.some((s) => s.set === set))
    .map((set): Hazard => ({ kind: 'nothing-archived', stops: false, set }));
  return [...namespaces, ...named];
};

/** What an exact restore would delete, and nothing could bring back (S8): sets that were left out of the capture, for one. */
const neverArchived = (
  { name, sets, withoutSet }: NamespaceFacts,
  chosen: readonly string[] | undefined,
  known: ReadonlySet<string>,
): Hazard[] =>
  [...sets, ['', withoutSet] as const]
    .filter(([set, count]) => count > 0 && (chosen?.includes(set) ?? true) && !known.has(`${name}/${set}`))
    .map(([set, count]) => ({ kind: 'never-archived', stops: true, namespace: name, set, count }));

const namespaceHazards = (f: NamespaceFacts, sets: readonly ArchivedSet[], ttl: TtlMode): Hazard[] => {
  const namespace = f.name;
  const hazards: Hazard[] = [];
  if (f.isStopped) hazards.push({ kind: 'stop-writes', stops: true, namespace });
  if (f.isClockSkewed) hazards.push({ kind: 'clock-skew', stops: true, namespace });
  if (f.missingPartitions > 0)
    hazards.push({ kind: 'partitions-missing', stops: true, namespace, count: f.missingPartitions });
  for (const { set } of sets) {
    const why = setRefusal(set);
    if (why !== undefined) hazards.push({ kind: 'set-name', stops: false, namespace, set, why });
  }
  const count = new Set([...f.sets.keys(), ...sets.map((s) => s.set).filter((s) => s !== '')]).size;
  if (count > SETS_MAX) hazards.push({ kind: 'too-many-sets', stops: false, namespace, count });
  if (ttl !== 'never' && f.nsupPeriodS === 0 && !f.allowsTtlWithoutNsup)
    hazards.push({ kind: 'ttl-refused', stops: false, namespace });
  if (f.migrations > 0) hazards.push({ kind: 'migrations', stops: false, namespace, count: f.migrations });
  if (f.isStronglyConsistent) hazards.push({ kind: 'strong-consistency', stops: false, namespace });
  if (f.recordBytesMax !== undefined && f.recordBytesMax < RECORD_BYTES_USUAL)
    hazards.push({ kind: 'large-records', stops: false, namespace, bytesMax: f.recordBytesMax });
  return hazards;
};

/** What it means and what to do, one sentence each. */
export const explainHazard = (h: Hazard): { readonly what: string; readonly hint: string } => {
  switch (h.kind) {
    case 'namespace-missing':
      return {
        what: `the cluster has no namespace ${h.namespace}`,
        hint: `configure it (a Community cluster has at most 2), or give it another name: --rename-namespace ${h.namespace}=NAME`,
      };
    case 'stop-writes':
      return {
        what: `namespace ${h.namespace} takes no writes: stop_writes is true`,
        hint: 'free memory or storage, or raise the limits (stop-writes-…)',
      };
    case 'clock-skew':
      return {
        what: `namespace ${h.namespace} takes no writes: the clocks of its nodes are apart`,
        hint: 'set the clocks of the nodes (NTP)',
      };
    case 'partitions-missing':
      return {
        what: `${h.count} partitions of namespace ${h.namespace} are unavailable or dead`,
        hint: 'bring all nodes back, or revive the partitions',
      };
    case 'never-archived':
      return {
        what:
          `the archive has never had ${h.set === '' ? 'records without a set' : `set "${h.set}"`} of namespace ${h.namespace}: ` +
          `${h.count} records would be deleted for good`,
        hint: 'name the sets that are meant with --set, or delete them yourself if nobody needs them',
      };
    case 'nothing-archived':
      return {
        what: `the archive has nothing of ${h.set === undefined ? `namespace ${h.namespace}` : `set "${h.set}"`} up to this instant`,
        hint: 'is the name right?',
      };
    case 'partitions-not-archived':
      return {
        what:
          `the archive does not have partitions ${h.partitions} at this instant` +
          (h.stops
            ? ': all of their records would be deleted for good'
            : ': none of their records come back'),
        hint:
          h.archived.size === 0
            ? 'is it the right archive and timeline?'
            : `choose those that it has: --partitions ${h.archived}`,
      };
    case 'set-name':
      return {
        what: `set "${h.set}" of namespace ${h.namespace} has a name that a server refuses (${h.why})`,
        hint: 'its records are refused; --rename-set gives it another name',
      };
    case 'too-many-sets':
      return {
        what: `namespace ${h.namespace} would have ${h.count} sets; a server takes ${SETS_MAX}`,
        hint: 'restore fewer sets, or into another namespace',
      };
    case 'ttl-refused':
      return {
        what: `namespace ${h.namespace} refuses every time to live: nsup-period is 0`,
        hint: 'set nsup-period or allow-ttl-without-nsup, or use --ttl never; else records that expire are refused (code 22)',
      };
    case 'migrations':
      return {
        what: `${h.count} partitions of namespace ${h.namespace} are migrating`,
        hint: 'the restore waits and retries where it must; it is faster when they have ended',
      };
    case 'lost-since':
      return {
        what: `${h.count} records that an interrupted restore had written are not there any more`,
        hint: 'every range is done anew',
      };
    case 'deletes-return':
      return {
        what: 'a Community server forgets deletions with its cold start: what is deleted now may come back',
        hint: 'after a restart run the same command with --recheck',
      };
    case 'strong-consistency':
      return {
        what: `namespace ${h.namespace} is strongly consistent: deletions leave tombstones`,
        hint: 'nothing to do',
      };
    case 'large-records':
      return {
        what: `namespace ${h.namespace} takes records up to ${h.bytesMax} bytes only`,
        hint: 'raise max-record-size, else larger records are refused (code 13)',
      };
    case 'map-keys':
      return {
        what: 'servers from 8.0 on take integers, strings and blobs as keys of maps only',
        hint: 'records with others, of an older cluster, are refused (code 1) and named in the file of refused records',
      };
    default:
      return h satisfies never;
  }
};
