import { type ChildProcess, fork } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PitrError } from '../../engine/errors.ts';
import type { FromChild } from './child.ts';
import { type Memory, MemoryWatch } from './memory.ts';

/** What a job returned, with the cost of the process that ran it. */
export interface Isolated<T> extends Memory {
  readonly value: T;
  /** From before the start of the process to its result. */
  readonly processSeconds: number;
}

/** A function that a child process finds by the module that exports it and its name. */
export interface Job {
  readonly module: string;
  readonly name: string;
}

/** `jobOf(import.meta.url, 'restore')` */
export const jobOf = (module: string, name: string): Job => ({ module, name });

/** Types are stripped and modules compiled once for all processes and their threads: whoever installed pitr runs what was built. */
export const COMPILED_ONCE = { NODE_COMPILE_CACHE: join(tmpdir(), 'pitr-bench-modules') } as const;

const children = new Set<ChildProcess>();
// a benchmark that is interrupted leaves nothing running
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

const CHILD = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? './child.ts' : './child.js', import.meta.url),
);

/**
 * Runs a job in a process of its own, so that its memory and its compiled code are its own, and watches its memory.
 * Arguments and result travel as JSON does.
 */
export const isolated = async <T>(job: Job, args: object): Promise<Isolated<T>> => {
  const running = startJob<T>(job, args);
  return running.result;
};

export interface RunningJob<T> {
  readonly result: Promise<Isolated<T>>;
  /** Resolves when the job says that it is ready. */
  readonly ready: Promise<void>;
  /** Tells a job that waits for it to end. */
  stop(): void;
}

export const startJob = <T>(job: Job, args: object): RunningJob<T> => {
  const started = performance.now();
  const child = fork(CHILD, [job.module, job.name, JSON.stringify(args)], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...process.env, ...COMPILED_ONCE },
  });
  children.add(child);
  const watch = new MemoryWatch(child.pid ?? 0);
  let stderr = '';
  child.stderr?.on('data', (text) => {
    stderr = (stderr + text).slice(-4000);
  });
  let isReady = (): void => undefined;
  const ready = new Promise<void>((resolve) => {
    isReady = resolve;
  });
  const result = new Promise<Isolated<T>>((resolve, reject) => {
    let value: { readonly value: T } | undefined;
    let processSeconds = 0;
    child.on('message', (message: FromChild<T>) => {
      if (message.kind === 'ready') return isReady();
      if (message.kind === 'failed')
        return reject(new PitrError('internal', { what: `${job.name}: ${message.why}` }));
      processSeconds = (performance.now() - started) / 1000;
      value = { value: message.value };
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      children.delete(child);
      const memory = watch.stop();
      if (value) resolve({ ...value, processSeconds, ...memory });
      else
        reject(
          new PitrError('internal', {
            what: `the benchmark's process ${job.name} ended with ${signal ?? code}: ${stderr.trim()}`,
          }),
        );
    });
  });
  // one that failed is never ready; either is looked at when somebody waits for it, and nobody may
  const readyOrFailed = Promise.race([ready, result.then(() => undefined)]);
  for (const promise of [result, readyOrFailed]) promise.catch(() => undefined);
  return {
    result,
    ready: readyOrFailed,
    stop: () => void (child.connected && child.send('stop')),
  };
};
