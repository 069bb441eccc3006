import { type MessagePort, Worker, type WorkerOptions } from 'node:worker_threads';

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

/** What asks a thread to end. */
const END = 'pitr: end';
/** One that does not come to a turn of its event loop for that long is ended from outside. */
const END_MS = 2000;

/** In a thread, before it listens for anything else. */
export const endsOnRequest = (port: MessagePort): void => {
  port.on('message', (message) => {
    // no other listener hears of it
    if (message === END) process.exit(0);
  });
};

/**
 * Ends a thread wherever it is, between two turns of its event loop: one that is ended from outside while it makes a compressor takes the whole
 * process with it (Node 24.21, "close before init").
 */
export const endThread = async (worker: Worker): Promise<void> => {
  // after its end
  if (worker.threadId === -1) return;
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  worker.postMessage(END);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, END_MS);
  });
  await Promise.race([ended, late]);
  clearTimeout(timer);
  await worker.terminate();
};
