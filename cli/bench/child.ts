/** The process that {@link isolated} starts: runs one job and sends its result. Arguments: module, name of the export, JSON. */
import { inspect } from 'node:util';

export type FromChild<T> =
  | { readonly kind: 'ready' }
  | { readonly kind: 'done'; readonly value: T }
  | { readonly kind: 'failed'; readonly why: string };

/** What a job gets beside its arguments. */
export interface JobContext {
  /** Says that what must be there before others go on is there. */
  ready(): void;
  /** Resolves when the parent says stop. */
  readonly stopped: Promise<void>;
}

export type JobFunction = (args: never, context: JobContext) => Promise<unknown>;

const say = (message: FromChild<unknown>): Promise<void> =>
  new Promise((resolve) => {
    if (process.send) process.send(message, () => resolve());
    else resolve();
  });

const run = async (): Promise<void> => {
  const [module, name, json] = process.argv.slice(2);
  const context: JobContext = {
    ready: () => void say({ kind: 'ready' }),
    stopped: new Promise((resolve) => process.once('message', () => resolve())),
  };
  // a parent that was killed must not leave its jobs running
  process.once('disconnect', () => process.exit());
  try {
    const job: JobFunction = (await import(module))[name];
    await say({ kind: 'done', value: await job(JSON.parse(json) as never, context) });
  } catch (error) {
    await say({ kind: 'failed', why: error instanceof Error ? error.message : inspect(error) });
    process.exitCode = 1;
  }
  if (process.connected) process.disconnect();
};

await run();
