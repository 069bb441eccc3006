import { Worker, type WorkerOptions } from 'node:worker_threads';

/**
 * Starts a thread whose module is `name` beside the caller's (`import.meta.url`): TypeScript where the caller is TypeScript, else what it
 * was built to. A main program that came as text has flags that a thread refuses; of all others it gets the process's own.
 */
export const startThread = (callerUrl: string, name: string, options: WorkerOptions = {}): Worker => {
  const extension = callerUrl.endsWith('.ts') ? 'ts' : 'js';
  const isText = process.execArgv.some((flag) => flag.startsWith('--input-type'));
  return new Worker(new URL(`./${name}.${extension}`, callerUrl), {
    ...(isText ? { execArgv: [] } : {}),
    ...options,
  });
};
