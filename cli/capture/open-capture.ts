import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import type { ClientOptions } from '../../engine/aerospike/client/client-options.ts';
import {
  clientOptionsOf,
  keptClusterUrl,
  parseClusterUrl,
} from '../../engine/aerospike/client/cluster-url.ts';
import { DoorServer } from '../../engine/door.ts';
import { PitrError } from '../../engine/errors.ts';
import { PartitionSet } from '../../engine/partition.ts';
import type { Archiver } from '../../wal/archiver.ts';
import { type CaptureSource, initCapture, readSource } from '../../wal/capture/capture-dir.ts';
import { Journal } from '../../wal/capture/journal.ts';
import type { XdrCaptureOptions } from '../../wal/capture/xdr/xdr-capture.ts';
import { archiveOptionsOf } from '../object-storage.ts';
import { archiveUrl } from '../places.ts';
import type { Session } from '../session.ts';
import { captureDoor } from './capture-door.ts';
import type { CaptureEvents, CaptureRun } from './capture-run.ts';
import { ClusterRun } from './cluster-run.ts';
import { kindOf, type SourceFlags } from './source-options.ts';
import { XdrRun } from './xdr-run.ts';

/** A capture directory that is open: what runs it, and how it ends. */
export interface OpenCapture {
  readonly run: CaptureRun;
  close(): Promise<void>;
}

/** Makes the directory that `--source` names, if it is not there yet. @throws usage, aerospike-…, ownership-conflict, … */
export const initSource = async (session: Session, dir: string, flags: SourceFlags): Promise<void> => {
  const { source: url, namespace, set, partitions, stream } = flags;
  if (url === undefined) return;
  const known = await readSource(dir);
  const kind = kindOf(url);
  // of a directory that is there the cluster may be away; a new one must not be made for what the cluster does not have
  const found = known || kind === 'xdr' ? undefined : await namespacesOf(session, url);
  const missing = found && namespace?.find((n) => !found.includes(n));
  if (missing !== undefined)
    throw new PitrError('usage', {
      what: `the cluster has no namespace ${missing}`,
      hint: `it has ${found?.join(', ')}; name the directory in front of --namespace, which takes all that follows`,
    });
  const namespaces = namespace ?? known?.namespaces ?? found;
  if (namespaces === undefined)
    throw new PitrError('usage', {
      what: 'xdr:// without namespaces',
      hint: 'name what the cluster ships with --namespace',
    });
  const source: CaptureSource = {
    kind,
    url: kind === 'xdr' ? url : keptClusterUrl(parseClusterUrl(url), (path) => resolve(path)),
    namespaces,
    sets: set ?? (namespace === undefined ? known?.sets : undefined) ?? null,
  };
  await initCapture(resolve(dir), source, {
    archive: known ? ((await archiveOptionsOf(session, dir)).url ?? '') : archiveUrl(session, [], false),
    clock: session.clock,
    ...(stream === undefined ? {} : { stream }),
    ...(partitions === undefined ? {} : { partitions: PartitionSet.parse(partitions) }),
  });
};

const namespacesOf = async (session: Session, url: string): Promise<readonly string[]> => {
  const client = await AerospikeClient.connect(clientOf(session, url));
  try {
    return [...client.namespaces].sort();
  } finally {
    await client.close();
  }
};

/** How a cluster is reached, with the limits that are set. @throws usage, io */
const clientOf = (session: Session, url: string): Omit<ClientOptions, 'timing' | 'random'> => {
  const { recordsPerSecond, bandwidth } = session.config.capture;
  const rate = {
    ...(recordsPerSecond === undefined ? {} : { recordsPerSecond }),
    ...(bandwidth === undefined ? {} : { bytesPerSecond: bandwidth }),
  };
  return {
    ...clientOptionsOf(parseClusterUrl(url), session.surroundings.env, (path) => readFileSync(path)),
    ...(Object.keys(rate).length > 0 ? { rate } : {}),
  };
};

/** `xdr://host:port` and how the source's info is reached. @throws usage */
const listenerOf = (
  session: Session,
  url: string,
  { sourceInfo, xdrDc }: SourceFlags,
): Omit<XdrCaptureOptions, 'journal'> => {
  const [, host = '', port = ''] = /^xdr:\/\/(.+):(\d{1,5})$/.exec(url) ?? [];
  if (host === '')
    throw new PitrError('usage', {
      what: `a source "${url}"`,
      hint: 'write xdr://HOST:PORT, an address of this machine',
    });
  if ((sourceInfo === undefined) !== (xdrDc === undefined))
    throw new PitrError('usage', {
      what: '--source-info without --xdr-dc, or the other way round',
      hint: 'the name of the DC says which of its destinations this is',
    });
  return {
    host: host.replace(/^\[|\]$/g, ''),
    port: Number(port),
    ...(sourceInfo === undefined || xdrDc === undefined
      ? {}
      : { source: { client: clientOf(session, sourceInfo), dc: xdrDc } }),
  };
};

/**
 * Opens a capture directory whose archiver is open already. `flags`: what was said now, which may be more than the directory keeps (user, TLS, where
 * the info of a source is that ships).
 * @throws engine-busy, log-…, store-corrupt, usage
 */
export const openCapture = async (
  session: Session,
  archiver: Archiver,
  flags: SourceFlags,
  events: CaptureEvents,
): Promise<OpenCapture> => {
  const journal = await Journal.open(archiver.dir, { clock: session.clock });
  try {
    const { source } = journal;
    const run =
      source.kind === 'xdr'
        ? new XdrRun({ archiver, xdr: { journal, ...listenerOf(session, source.url, flags) }, events })
        : new ClusterRun({
            journal,
            archiver,
            client: clientOf(session, flags.source ?? source.url),
            pollMs: session.config.capture.poll,
            groups: session.config.capture.groups,
            events,
          });
    const door = await DoorServer.open(archiver.dir, captureDoor(run));
    return {
      run,
      close: async () => {
        await door.close();
        await journal.close();
      },
    };
  } catch (error) {
    await journal.close();
    throw error;
  }
};
