/**
 * A seeded simulation: writers, agents, compaction, sweeps, snapshots and restores on machines, disks, clocks and an archive that one
 * scheduler owns. Every call waits until a random number takes it; then it has its effect, or fails before it, after it, late,
 * twice, in part, or with a damaged answer. Between any two calls a process may be killed, a machine lose its power, a process
 * sleep (for hours, too), a clock step, and a second agent take the stream, on the same machine or on another. The same seed gives
 * the same trace.
 *
 *     PITR_SIM_SEEDS=10000 node --test test/sim/sim.test.ts test/sim/sim-odd.test.ts
 *     PITR_SIM_SEED=182 PITR_SIM_TRACE=1 node --test test/sim/sim.test.ts
 *
 * | file | noun |
 * |---|---|
 * | scheduler.ts, runtime.ts | decides what happens next; timers, time and random bytes of the runtime |
 * | disk.ts, store.ts | a machine's disk with its page cache, an engine's store |
 * | service.ts, bucket.ts | the archive's service as a run sees it; the interface of object stores, in memory |
 * | s3-network.ts, s3-service.ts | the S3 store with the official client, and the way to an S3 server; that server |
 * | history.ts, catalog-watch.ts | the judge: a list of versions for each record; what every published head must be |
 * | writer.ts, agent.ts, reader.ts | the actors |
 * | world.ts, simulation.ts, seeds.ts | what a run consists of; one run; runs as tests |
 *
 * A third of the seeds have their archive on S3: each HTTP request is a call. Rates are picked for each seed, from nothing to a
 * bad day: 25 % of requests fail or arrive late, twice or again, 30 % are throttled, 1 % damaged in either direction, at 1 % each
 * the process sleeps or dies. In simulation.ts: WEATHERS.
 *
 * What is judged: a reopened engine has all that was acknowledged, and of the rest the first few operations of each writer, whole
 * batches (S2, S3); each answer of an engine; ts above every published frontier, positions given out once (F1–F3); heads without
 * a gap, that name objects which exist, whose frontier never falls, one claim to a generation (A1–A6); what heads and snapshots
 * name is never deleted (A6, C1); ranges that are true, and what was once said to be restorable stays so (S4); a restore to an
 * instant or mark is the map's state then, however often it is repeated (S1, F1); targets outside are refused (S5); a damaged answer
 * is refused, never shown; when the faults end everything is archived within a bounded number of steps, and what nothing names was
 * left by somebody who was killed or whom something happened to; requests under way and tries of a write are bounded.
 *
 * An error that no injected fault explains is a finding (World.tolerate). What may be said, and why:
 *
 * | id | explained by |
 * |---|---|
 * | archive-away, archive-throttled | on S3: as many failed requests and naps in this piece of work as one request has tries |
 * | object-corrupt, format-version, log-corrupt; io of a deletion on S3 | a damaged answer |
 * | lease-lost | a failed request, or two minutes without a renewal |
 * | fenced, cas-conflict, agent-busy, engine-busy | another agent or writer, which there is |
 * | object-not-found | of an agent: the stream was taken from it |
 * | nothing-restorable, target-nodata, snapshot-in-use | the state of the archive, of a snapshot only |
 * | object-exists | a request that arrived twice, where the store cannot tell; never on S3 |
 * | io and whatever else has an injected error as its cause | that error |
 */
import { testSeeds } from './seeds.ts';

testSeeds(0, 2);
