/**
 * A seeded simulation: writers, agents, compaction, snapshots and restores on machines, disks, clocks and an archive that one
 * scheduler owns. Every call waits until a random number takes it; then it has its effect, or fails before it, after it, late,
 * twice, in part, or with a damaged answer. Between any two calls a process may be killed, a machine lose its power, a process
 * sleep, a clock step, and a second agent take the stream. The same seed gives the same trace.
 *
 *     PITR_SIM_SEEDS=10000 node --test test/sim/sim.test.ts test/sim/sim-odd.test.ts
 *     PITR_SIM_SEED=182 PITR_SIM_TRACE=1 node --test test/sim/sim.test.ts
 *
 * | file | noun |
 * |---|---|
 * | scheduler.ts, runtime.ts | decides what happens next; timers, time and random bytes of the runtime |
 * | disk.ts, store.ts, bucket.ts | a machine's disk with its page cache, an engine's store, the archive's service |
 * | history.ts, catalog-watch.ts | the judge: a list of versions for each record; what every published head must be |
 * | writer.ts, agent.ts, reader.ts | the actors |
 * | world.ts, simulation.ts, seeds.ts | what a run consists of; one run; runs as tests |
 *
 * What is judged: a reopened engine has all that was acknowledged, and of the rest the first few operations of each writer, whole
 * batches (S2, S3); each answer of an engine; ts above every published frontier, positions given out once (F1–F3); heads without
 * a gap, that name objects which exist, whose frontier never falls, one claim to a generation (A1–A6); ranges that are true (S4);
 * a restore to an instant or mark is the map's state then, however often it is repeated (S1, F1); targets outside are refused
 * (S5); a damaged answer is refused, never shown; when the faults end everything is archived within a bounded number of steps.
 * An error that no injected fault explains is a finding.
 */
import { testSeeds } from './seeds.ts';

testSeeds(0, 2);
