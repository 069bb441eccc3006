/**
 * The fuzzing harness: seeded, deterministic for a number of executions, without a second process.
 *
 * A **target** is a decoder with seeds. Its inputs are seeds after byte or tree mutations; what is under a checksum gets the
 * right checksum again inside `run`, so that the decoder behind it is reached. The oracle of every target:
 *
 *   Z1  `run` returns, or throws a PitrError with an id that its target names. Any other error is a finding.
 *   Z2  What it accepts is consistent: encoded again and decoded, it is the same. `run` asserts that.
 *   Z3  It ends within EXEC_MS_MAX of CPU, and memory outside the heap stays below MEMORY_BYTES_MAX.
 *
 * A finding is written to findings/DECODER-HASH.bin, which fuzz.test.ts replays for ever.
 *
 *   PITR_FUZZ_SECONDS=n   time for all decoders together (default 60)
 *   PITR_FUZZ_SEED=k      another stream of mutations (default 1)
 *   PITR_FUZZ=name        one decoder
 */

import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type ErrorId, PitrError } from '../../engine/errors.ts';
import type { Rng } from '../model/rng.ts';
import { mutateBytes, mutateTree } from './mutate.ts';

const EXEC_MS_MAX = 1000;
const MEMORY_BYTES_MAX = 400 * 1024 * 1024;
const KEPT_MAX = 200;

export interface Target {
  readonly name: string;
  readonly seeds: readonly Buffer[];
  /** What it may refuse with. */
  readonly refusals: readonly ErrorId[];
  /** Decodes, and asserts Z2. */
  readonly run: (input: Buffer) => unknown;
  /** For inputs that are trees: mutations then know their structure. */
  readonly tree?: { readonly parse: (input: Buffer) => unknown; readonly print: (tree: unknown) => Buffer };
}

export const FINDINGS = join(import.meta.dirname, 'findings');

/** One input through one target. @throws what is a finding */
export const execute = async (target: Target, input: Buffer): Promise<'accepted' | 'refused'> => {
  const before = process.cpuUsage();
  let outcome: 'accepted' | 'refused' = 'accepted';
  try {
    // not awaited when it is synchronous: a turn of the event loop costs more than most decoders
    const result = target.run(Buffer.from(input));
    if (result instanceof Promise) await result;
  } catch (error) {
    if (!(error instanceof PitrError) || !target.refusals.includes(error.id)) throw error;
    outcome = 'refused';
  }
  const { user, system } = process.cpuUsage(before);
  if (user + system > EXEC_MS_MAX * 1000) throw new Error(`took ${(user + system) / 1000} ms`);
  return outcome;
};

export interface Tally {
  readonly execs: number;
  readonly accepted: number;
  readonly findings: readonly { readonly file: string; readonly error: unknown }[];
}

/** Runs mutations of the seeds for `ms`, or as many as are asked for; inputs that a decoder accepts, changed as they are, become seeds, too. */
export const fuzz = async (
  target: Target,
  { ms, execsMax }: { ms: number; execsMax: number },
  rng: Rng,
): Promise<Tally> => {
  const kept = [...target.seeds];
  const findings = new Map<string, { file: string; error: unknown }>();
  const until = performance.now() + ms;
  let execs = 0;
  let accepted = 0;
  while (performance.now() < until && execs < execsMax) {
    const input = mutated(target, kept, rng);
    execs++;
    try {
      if ((await execute(target, input)) === 'accepted') {
        accepted++;
        if (kept.length < KEPT_MAX) kept.push(input);
      }
      if (execs % 64 === 0 && outsideHeap() > MEMORY_BYTES_MAX) {
        // a decompressor that failed is garbage, but the collector does not see how much hangs on it
        await collectGarbage();
        if (outsideHeap() > MEMORY_BYTES_MAX) throw new Error(`${outsideHeap()} bytes outside the heap`);
      }
    } catch (error) {
      // one finding for each place in the code
      const place = String((error as Error).stack)
        .split('\n')
        .slice(0, 3)
        .join('\n')
        .replace(/\d{3,}/g, 'N');
      if (!findings.has(place)) findings.set(place, { file: keep(target, input), error });
    }
  }
  return { execs, accepted, findings: [...findings.values()] };
};

const outsideHeap = (): number => {
  const { arrayBuffers, external } = process.memoryUsage();
  return arrayBuffers + external;
};

const collectGarbage = async (): Promise<void> => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  gc();
  // what the first one found dead is given back in a turn of its own
  await new Promise((resolve) => setTimeout(resolve, 10));
  gc();
};

const mutated = (target: Target, seeds: readonly Buffer[], rng: Rng): Buffer => {
  const seed = rng.pick(seeds);
  const { tree } = target;
  if (tree === undefined || rng.chance(0.3)) return mutateBytes(seed, seeds, rng);
  try {
    return tree.print(mutateTree(tree.parse(seed), rng));
  } catch {
    // a seed that was mutated as bytes may be no tree
    return mutateBytes(seed, seeds, rng);
  }
};

const keep = (target: Target, input: Buffer): string => {
  const hash = createHash('sha256').update(input).digest('hex').slice(0, 12);
  const file = join(FINDINGS, `${target.name}-${hash}.bin`);
  mkdirSync(FINDINGS, { recursive: true });
  writeFileSync(file, input);
  return file;
};
