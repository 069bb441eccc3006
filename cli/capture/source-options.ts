import { PitrError } from '../../engine/errors.ts';
import { PartitionSet } from '../../engine/partition.ts';
import type { PitrCommand } from '../pitr-command.ts';

/** Flags of `pitr agent` that say where records come from. */
export interface SourceFlags {
  readonly source?: string;
  readonly namespace?: readonly string[];
  readonly set?: readonly string[];
  readonly partitions?: string;
  readonly stream?: string;
  readonly sourceInfo?: string;
  readonly xdrDc?: string;
}

export const withSourceOptions = (command: PitrCommand): PitrCommand =>
  command
    .optionsGroup('From a cluster:')
    .option('--source <url>', 'aerospike://HOST:PORT,…, or xdr://HOST:PORT to listen on')
    .option('--archive <url>', 'where its history goes, for example file:/backup/db')
    .option('--namespace <names...>', 'only these namespaces (default: all that the cluster has)')
    .option('--set <names...>', 'only these sets (default: all)')
    .option('--partitions <ranges>', 'only these, for example 0-1023: one of several agents')
    .option('--stream <name>', 'name of the new stream in the archive (default: main)')
    .option('--poll <duration>', 'how often the cluster is asked what has changed (default: 1s)')
    .option('--poll-groups <n>', 'groups in which a poll counts the records of a namespace (default: 16)')
    .option('--source-records-per-second <n>', 'records that are read from the cluster at most')
    .option('--source-bandwidth <size>', 'bytes a second that are read from the cluster at most')
    .option('--source-info <url>', 'with xdr://: the cluster that ships, to know how far it is')
    .option('--xdr-dc <name>', 'with xdr://: the name of this destination there')
    .optionsGroup('Options:');

export type SourceKind = 'aerospike' | 'xdr';

/** What `--source` names. @throws usage */
export const kindOf = (url: string): SourceKind => {
  if (url.startsWith('aerospike://')) return 'aerospike';
  if (url.startsWith('xdr://')) return 'xdr';
  throw new PitrError('usage', {
    what: `a source "${url}"`,
    hint: 'write aerospike://HOST:PORT, or xdr://HOST:PORT for a listener',
  });
};

/** The flags are for `--source` only. @throws usage */
export const assertSourceFlags = (flags: SourceFlags, dirs: readonly string[]): void => {
  const { source, namespace, set, partitions, stream, sourceInfo, xdrDc } = flags;
  if (source === undefined) {
    const [given] =
      Object.entries({ namespace, set, partitions, stream }).find(([, v]) => v !== undefined) ?? [];
    if (given !== undefined)
      throw new PitrError('usage', {
        what: `--${given} without --source`,
        hint: 'name the cluster with --source; a directory that has captured before knows its own',
      });
    return;
  }
  if (dirs.length !== 1)
    throw new PitrError('usage', {
      what: `--source with ${dirs.length} directories`,
      hint: 'name the one directory in which this source is captured, in front of --namespace and --set, which take all that follows',
    });
  if (kindOf(source) === 'aerospike' && (sourceInfo ?? xdrDc) !== undefined)
    throw new PitrError('usage', {
      what: '--source-info and --xdr-dc are for xdr://',
      hint: 'leave them out',
    });
  if (partitions !== undefined) PartitionSet.parse(partitions);
};
