import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { parseAddresses } from '../engine/aerospike/cluster-text.ts';
import { PitrError } from '../engine/errors.ts';
import {
  type AvsOptions,
  type AvsPlace,
  type AvsReport,
  type AvsStep,
  planAvs,
  restoreAvs,
} from '../restore/aerospike/avs.ts';
import type { ClusterRestoreOptions } from '../restore/aerospike/restore-cluster.ts';
import type { Selection } from '../restore/selection.ts';
import type { PitrCommand } from './pitr-command.ts';
import { avsPlanData, avsReportData, renderAvsPlan, renderAvsReport } from './render/avs-restore.ts';
import type { Session } from './session.ts';

/** Flags of `pitr restore --profile avs`. */
export interface AvsFlags {
  readonly profile?: string;
  readonly avsMeta?: string;
  readonly avsIndex?: readonly string[];
  readonly avsVectors?: readonly string[];
  readonly avs?: string;
  readonly avsIsDown?: boolean;
}

export const withAvsOptions = (command: PitrCommand): PitrCommand =>
  command
    .optionsGroup('Aerospike Vector Search (docs/avs.md):')
    .choice('--profile <name>', 'namespaces that belong together, in their order', ['avs'])
    .option('--avs-meta <namespace>', 'of the metadata (default: avs-meta)')
    .option('--avs-index <places...>', 'of index data: NS or NS/SET')
    .option('--avs-vectors <places...>', 'of vectors: NS or NS/SET (default: what is left)')
    .option('--avs <address>', 'HOST:PORT where it must not answer yet')
    .option('--avs-is-down', 'it is down, somebody has looked');

const DEFAULT_METADATA = 'avs-meta';
const DEFAULT_PORT = 5000;

/** @throws usage when flags do not go together */
export const assertAvsFlags = (flags: AvsFlags, selection: object): void => {
  const { profile, avs, avsIsDown, ...others } = flags;
  const given = Object.entries({ ...others, avs, avsIsDown }).find(([, v]) => v !== undefined);
  if (profile === undefined && given)
    throw new PitrError('usage', {
      what: `--${given[0].replaceAll(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)} without --profile avs`,
      hint: 'add --profile avs',
    });
  if (profile !== undefined && Object.keys(selection).length > 0)
    throw new PitrError('usage', {
      what: '--profile avs restores its namespaces as they belong together, without filters and renames',
      hint: 'use --avs-meta, --avs-index and --avs-vectors',
    });
  if (profile !== undefined && (avs === undefined) === (avsIsDown === undefined))
    throw new PitrError('usage', {
      what: 'Aerospike Vector Search must be down until its metadata is there',
      hint: 'give its address with --avs HOST:PORT, which is looked at, or confirm with --avs-is-down',
    });
};

/** Says what would be done. */
export const planProfile = async (
  session: Session,
  flags: AvsFlags,
  base: ClusterRestoreOptions,
): Promise<void> => {
  const planned = await planAvs(optionsOf(session, flags, base));
  session.emit(avsPlanData(planned, base.place), () =>
    renderAvsPlan(planned, base.place, session.clock.nowMs()),
  );
};

/** Restores. */
export const restoreProfile = async (
  session: Session,
  flags: AvsFlags,
  base: ClusterRestoreOptions,
): Promise<AvsReport> => {
  const report = await restoreAvs(optionsOf(session, flags, base));
  session.emit(avsReportData(report), () => renderAvsReport(report, base.place, session.clock.nowMs()));
  return report;
};

const optionsOf = (session: Session, flags: AvsFlags, base: ClusterRestoreOptions): AvsOptions => ({
  ...base,
  stateDir: (wanted) => join(base.stateDir(wanted), partFolder(wanted.selection)),
  group: {
    metadata: flags.avsMeta ?? DEFAULT_METADATA,
    index: (flags.avsIndex ?? []).map(placeOf),
    vectors: flags.avsVectors?.map(placeOf),
  },
  address: flags.avs === undefined ? undefined : addressOf(flags.avs),
  onStep: (step) => session.note(STEPS[step]),
  onMayStart: () => session.note('metadata is there: Aerospike Vector Search may be started now'),
});

/** Each part has its own: index data and vectors may be sets of one namespace. */
const partFolder = ({ namespaces = [], sets }: Selection): string => {
  const namespace = namespaces.join('-');
  if (!sets) return namespace;
  return `${namespace}-${createHash('sha256').update(sets.join('\0')).digest('hex').slice(0, 8)}`;
};

const STEPS: Readonly<Record<AvsStep, string>> = {
  metadata: 'step 1 of 3: metadata. Aerospike Vector Search must be down',
  index: 'step 2 of 3: index data',
  vectors: 'step 3 of 3: vectors',
};

/** `NS` or `NS/SET`. */
const placeOf = (text: string): AvsPlace => {
  const slash = text.indexOf('/');
  if (text === '' || slash === 0)
    throw new PitrError('usage', { what: `"${text}" names no namespace`, hint: 'write NS or NS/SET' });
  return slash < 0
    ? { namespace: text, set: undefined }
    : { namespace: text.slice(0, slash), set: text.slice(slash + 1) };
};

const addressOf = (text: string): { host: string; port: number } => {
  try {
    const [address] = parseAddresses(text, DEFAULT_PORT);
    if (address) return address;
  } catch {
    // said below
  }
  throw new PitrError('usage', { what: `"${text}" is no address`, hint: 'write HOST:PORT' });
};
