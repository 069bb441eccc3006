/**
 * pitr as a library: what the command line does, a program can do.
 *
 * ```ts
 * import { Archiver, Engine, restoreEngine } from 'pitr';
 *
 * await Engine.init('data', { archive: 'file:/backup/db' });
 * const engine = await Engine.open({ dir: 'data' });
 * const archiver = await Archiver.open('data');
 * archiver.start();
 *
 * await engine.put({ namespace: 'shop', set: 'users', key: 42 }, { name: 'Ada', logins: 1 });
 * const before = await engine.mark('before-deploy');
 * await engine.delete({ namespace: 'shop', set: 'users', key: 42 });
 * await engine.close();
 * await archiver.round();
 * await archiver.close();
 *
 * await restoreEngine('data-before', undefined, { archive: 'file:/backup/db', target: `mark:${before.name}` });
 * ```
 *
 * @packageDocumentation
 */

export { AerospikeClient } from './engine/aerospike/client/client.ts';
export { AerospikeServer, type AerospikeServerOptions } from './engine/aerospike/server/aerospike-server.ts';
export { Faults } from './engine/aerospike/server/faults.ts';
export { type Clock, ManualClock, systemClock } from './engine/clock.ts';
export type { ShardDigest } from './engine/content-digest.ts';
export { EngineRecord } from './engine/engine-record.ts';
export type { BatchOp, BinsInput, OpenReport, WriteOutcome } from './engine/engine-types.ts';
export { ERRORS, type ErrorId, isPitrError, PitrError } from './engine/errors.ts';
export { type FileStat, type Files, nodeFiles, type OpenFile, type ReadableFile } from './engine/files.ts';
export type { EngineIdentity, ForkPoint } from './engine/identity.ts';
export type { ObjectStore } from './engine/object-store.ts';
export { openObjectStore } from './engine/open-object-store.ts';
export { type Particle, ParticleType } from './engine/particle.ts';
export { digestOf, PARTITIONS, type PartitionRange, PartitionSet, partitionOf } from './engine/partition.ts';
export type { RecordKey } from './engine/record-key.ts';
export type { RequestKind, StoreEvent, StoreObserver, WaitReason } from './engine/store-observer.ts';
export {
  CdtList,
  CdtMap,
  Double,
  Float32,
  fromJson,
  fromParticle,
  GeoJson,
  ListOrder,
  MapOrder,
  Opaque,
  particle,
  toJson,
  toParticle,
  type Value,
} from './engine/value.ts';
export type { Ttl, WriteMode, WriteOptions } from './engine/write-op.ts';
export {
  type ClusterPlan,
  type ClusterRestoreOptions,
  planClusterRestore,
  restoreCluster,
} from './restore/aerospike/restore-cluster.ts';
export { type Handover, handover, handoverDirs, takeOverLost } from './restore/handover.ts';
export type { InexactData } from './restore/inexact-line.ts';
export type { InexactTotals } from './restore/range-job.ts';
export { readAt, readWithDoubts } from './restore/read-at.ts';
export {
  planRestore,
  type RestoreOptions,
  type RestorePlan,
  type RestoreProgress,
  type RestoreReport,
  restoreEngine,
  restoreJsonLines,
  type TtlMode,
  type Verification,
} from './restore/restore.ts';
export type { Selection } from './restore/selection.ts';
export { parseTarget, type RecoveryTarget, type ResolvedTarget, resolveTarget } from './restore/target.ts';
export {
  type Anomaly,
  type VerifyOptions,
  type VerifyReport,
  verifyArchive,
} from './restore/verify-archive.ts';
export { type Chain, inspectChain } from './snapshot/chain.ts';
export { type CreateSnapshotOptions, createSnapshot } from './snapshot/create.ts';
export { type Hole, holesOf, windowOf } from './snapshot/holes.ts';
export type { Snapshot, SnapshotEntry, SnapshotKind } from './snapshot/manifest.ts';
export type { OrphanLine, OrphanReport } from './snapshot/orphan-report.ts';
export type { SweepRule } from './snapshot/orphan-table.ts';
export type { Restorable, RestorableRange } from './snapshot/ranges.ts';
export {
  type DeletedSnapshot,
  deleteSnapshot,
  findSnapshot,
  listSnapshots,
  readSnapshot,
} from './snapshot/snapshots.ts';
export {
  type CopySourceOptions,
  copySource,
  publishCopy,
  type SourceCopy,
} from './snapshot/source-copy.ts';
export { Sweeper, type SweepReport } from './snapshot/sweep.ts';
export { ArchiveView } from './snapshot/view.ts';
export {
  type Acknowledgement,
  acknowledge,
  readAcknowledged,
  unacknowledge,
} from './wal/acknowledgements.ts';
export { Archive } from './wal/archive.ts';
export { Archiver, type ArchiverEvent, type ArchiverOptions } from './wal/archiver.ts';
export type { PollReport } from './wal/capture/aerospike/poll-report.ts';
export { Poller, type PollerOptions } from './wal/capture/aerospike/poller.ts';
export { type CaptureSource, type InitCaptureOptions, initCapture } from './wal/capture/capture-dir.ts';
export { Journal, type JournalOptions } from './wal/capture/journal.ts';
export { Engine, type EngineOptions, type InitOptions } from './wal/engine.ts';
export { readVerifyResults, type VerifyResult, type VerifyResults } from './wal/verify-results.ts';
