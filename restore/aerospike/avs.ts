import { connect } from 'node:net';
import { PitrError } from '../../engine/errors.ts';
import { planRestore } from '../plan.ts';
import { restoreJsonLines } from '../restore.ts';
import { type ArchivedSet, archivedSets } from './archived-sets.ts';
import { missingIndexes } from './avs-metadata.ts';
import { refusedCount } from './cluster-job.ts';
import type { ClusterReport } from './cluster-report.ts';
import { explainHazard } from './hazards.ts';
import {
  type ClusterPlan,
  type ClusterRestoreOptions,
  planClusterRestore,
  restoreCluster,
} from './restore-cluster.ts';

/** A namespace, or one of its sets. */
export interface AvsPlace {
  readonly namespace: string;
  readonly set: string | undefined;
}

/** What Aerospike Vector Search needs of one instant. */
export interface AvsGroup {
  readonly metadata: string;
  readonly index: readonly AvsPlace[];
  /** Undefined: every other namespace of the archive. */
  readonly vectors: readonly AvsPlace[] | undefined;
}

export const AVS_STEPS = ['metadata', 'index', 'vectors'] as const;
export type AvsStep = (typeof AVS_STEPS)[number];

export interface AvsOptions extends ClusterRestoreOptions {
  readonly group: AvsGroup;
  /** Where it answers when it runs; undefined: the caller knows that it is down. */
  readonly address: { readonly host: string; readonly port: number } | undefined;
  /** A step begins. */
  readonly onStep?: (step: AvsStep) => void;
  /** Metadata is there: from now on Aerospike Vector Search may run. */
  readonly onMayStart?: () => void;
}

export interface AvsReport {
  readonly steps: readonly { readonly step: AvsStep; readonly reports: readonly ClusterReport[] }[];
  /** Metadata lost records: the rest was not begun. */
  readonly isCut: boolean;
  /** Indexes that the metadata seems to name and that have no records in the group. */
  readonly missingIndexes: readonly string[];
}

interface Part {
  readonly step: AvsStep;
  readonly options: ClusterRestoreOptions;
}

/** Bytes of metadata, as text, that are looked at; it is small. */
const METADATA_BYTES_MAX = 64 * 1024 * 1024;
const CONNECT_MS_MAX = 2000;

/** What would be done: every part, and what the metadata names in vain. Changes nothing. @throws as {@link planClusterRestore} */
export const planAvs = async (
  options: AvsOptions,
): Promise<{ plans: { step: AvsStep; plan: ClusterPlan }[]; missingIndexes: string[] }> => {
  const { parts, missing } = await partsOf(options);
  const plans: { step: AvsStep; plan: ClusterPlan }[] = [];
  for (const { step, options: part } of parts) plans.push({ step, plan: await planClusterRestore(part) });
  return { plans, missingIndexes: missing };
};

/**
 * Restores metadata in full, then index data, then vectors, all of them of one instant. Every part is planned before the first is
 * written. One that was interrupted is gone on with by `exact`. @throws avs-running, target-occupied, and what {@link restoreCluster} throws
 */
export const restoreAvs = async (options: AvsOptions): Promise<AvsReport> => {
  await assertDown(options.address);
  const { parts, missing } = await partsOf(options);
  for (const { options: part } of parts) {
    const { hazards, occupied, scopes, mode } = await planClusterRestore(part);
    if (mode === undefined && occupied > 0)
      throw new PitrError('target-occupied', { what: `${occupied} in ${scopes[0]?.namespace}` });
    const worst = hazards.find((h) => h.stops);
    if (worst) throw new PitrError('restore-hazard', explainHazard(worst));
  }
  const steps: { step: AvsStep; reports: ClusterReport[] }[] = [];
  for (const step of AVS_STEPS) {
    const mine = parts.filter((p) => p.step === step);
    if (mine.length === 0) continue;
    options.onStep?.(step);
    // somebody may have started it meanwhile
    if (step === 'metadata') await assertDown(options.address);
    const reports: ClusterReport[] = [];
    for (const { options: part } of mine) reports.push(await restoreCluster(part));
    steps.push({ step, reports });
    if (step !== 'metadata') continue;
    if (reports.some((r) => refusedCount(r.tally) > 0))
      return { steps, isCut: true, missingIndexes: missing };
    options.onMayStart?.();
  }
  return { steps, isCut: false, missingIndexes: missing };
};

/** The parts in their order, with the instant as a number, so that it is the same for all. */
const partsOf = async (options: AvsOptions): Promise<{ parts: Part[]; missing: string[] }> => {
  const { archive, plan } = await planRestore(options);
  const { group } = options;
  const all = await archivedSets(archive, plan);
  const index = group.index;
  const vectors = group.vectors ?? othersOf(group, all);
  const places: readonly (readonly [AvsStep, readonly AvsPlace[]])[] = [
    ['metadata', [{ namespace: group.metadata, set: undefined }]],
    ['index', index],
    ['vectors', vectors],
  ];
  const target = `${plan.target.ts}`;
  const parts = places.flatMap(([step, list]) =>
    byNamespace(list).map(([namespace, sets]): Part => {
      const selection = { namespaces: [namespace], ...(sets ? { sets } : {}) };
      return { step, options: { ...options, target, selection } };
    }),
  );
  const both = [...index, ...vectors];
  const there = new Set(
    all
      .filter(
        (s) => s.versions > 0 && both.some((p) => p.namespace === s.namespace && (p.set ?? s.set) === s.set),
      )
      .map((s) => s.set),
  );
  const metadata = await metadataLines({ ...options, target, selection: { namespaces: [group.metadata] } });
  // else it would be said that Aerospike Vector Search may be started
  if (metadata.length === 0)
    throw new PitrError('usage', {
      what: `the archive has no record of the metadata namespace ${group.metadata} at this instant`,
      hint: `name it with --avs-meta; the archive has ${[...new Set(all.map((s) => s.namespace))].join(', ') || 'none'}`,
    });
  return { parts, missing: missingIndexes(metadata, there) };
};

/** Vectors, when nobody says where they are: the archive's other namespaces, and other sets of those that have single sets of index data. */
const othersOf = ({ metadata, index }: AvsGroup, all: readonly ArchivedSet[]): AvsPlace[] => {
  const others: AvsPlace[] = [];
  for (const namespace of new Set(all.map((s) => s.namespace))) {
    const mine = index.filter((p) => p.namespace === namespace);
    if (namespace === metadata || mine.some((p) => p.set === undefined)) continue;
    if (mine.length === 0) others.push({ namespace, set: undefined });
    else
      for (const { set } of all.filter((s) => s.namespace === namespace))
        if (mine.every((p) => p.set !== set)) others.push({ namespace, set });
  }
  return others;
};

/** Each namespace once; with a place that is the whole of it, the whole of it. */
const byNamespace = (places: readonly AvsPlace[]): [namespace: string, sets: string[] | undefined][] => {
  const sets = new Map<string, string[] | undefined>();
  for (const { namespace, set } of places) {
    const known = sets.get(namespace);
    if (set === undefined || (sets.has(namespace) && known === undefined)) sets.set(namespace, undefined);
    else sets.set(namespace, [...(known ?? []), set]);
  }
  return [...sets];
};

/** The metadata at the instant as JSON lines, as far as it is looked at. */
const metadataLines = async (options: ClusterRestoreOptions): Promise<string[]> => {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const { onProgress: _, onInexact: __, ...quiet } = options;
  await restoreJsonLines(
    async (text) => {
      bytes += text.length;
      if (bytes <= METADATA_BYTES_MAX) chunks.push(Buffer.from(text));
    },
    { ...quiet, strict: false, workers: 0 },
  );
  const lines = Buffer.concat(chunks).toString('utf8').split('\n');
  return lines.filter((line) => line !== '');
};

/** @throws avs-running */
const assertDown = async (address: AvsOptions['address']): Promise<void> => {
  if (address && (await answers(address)))
    throw new PitrError('avs-running', { address: `${address.host}:${address.port}` });
};

const answers = ({ host, port }: { host: string; port: number }): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (isThere: boolean) => (): void => {
      socket.destroy();
      resolve(isThere);
    };
    socket.setTimeout(CONNECT_MS_MAX, end(false));
    socket.once('connect', end(true));
    socket.once('error', end(false));
  });
