import { type Clock, systemClock } from '../engine/clock.ts';
import { PitrError } from '../engine/errors.ts';
import { type Config, loadConfig, type Origins } from './config.ts';
import { createLogger, type Logger } from './log.ts';
import { emit, reportError, type TextSink } from './output.ts';
import type { PitrCommand } from './pitr-command.ts';
import { Progress, type ProgressStream } from './render/progress.ts';

/** Options that every command takes, as commander names them. */
export interface GlobalFlags {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly config?: string;
}

/** The process as the command line sees it: passed in, so that nothing below reaches for globals. */
export interface Surroundings {
  readonly stdout: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly stderr: TextSink & ProgressStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly clock?: Clock;
}

/** What one run of a command works with. Results leave through {@link emit}, remarks through {@link note}; nothing else prints. */
export class Session {
  readonly command: string;
  readonly config: Config;
  readonly origins: Origins;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly clock: Clock;
  /** Fires when the process is asked to stop. Only commands that {@link HandlerOptions.heedsStop} need to look at it. */
  readonly stop: AbortSignal;
  readonly surroundings: Surroundings;
  #log: Logger | undefined;

  constructor(
    command: string,
    flags: Record<string, unknown>,
    surroundings: Surroundings,
    stop: AbortSignal,
  ) {
    const { json, quiet, config: file } = flags as GlobalFlags;
    const { cwd, env } = surroundings;
    const { config, origins } = loadConfig({ cwd, env, flags, ...(file === undefined ? {} : { file }) });
    this.command = command;
    this.config = config;
    this.origins = origins;
    this.json = json ?? false;
    this.quiet = quiet ?? false;
    this.clock = surroundings.clock ?? systemClock;
    this.stop = stop;
    this.surroundings = surroundings;
  }

  /** The result, as JSON or as text. */
  emit(data: object, text: () => string, sink: TextSink = this.surroundings.stdout): void {
    emit({ command: this.command, data, text }, { json: this.json, stdout: sink });
  }

  /** One line for the person who waits: on stderr, and not when a program reads along or nobody wants to know. */
  note(line: string): void {
    if (!this.json && !this.quiet) this.surroundings.stderr.write(`${line}\n`);
  }

  progress(): Progress {
    const { json, quiet, clock } = this;
    return new Progress({ json, quiet, clock, stream: this.surroundings.stderr });
  }

  get log(): Logger {
    this.#log ??= createLogger(this.config.log);
    return this.#log;
  }
}

export interface HandlerOptions<A extends unknown[]> {
  /** The command ends by itself soon after {@link Session.stop} fires. Others are cut short: every one of them may be. */
  readonly heedsStop?: boolean;
  /** True when stdout carries something else than the result, so that a JSON error would be taken for a part of it. */
  readonly ownsStdout?: (...args: A) => boolean;
}

/** Runs the handlers of commands: makes their session, ends them on a signal, and remembers the exit code. */
export class Runner {
  exitCode = 0;
  /** Set when JSON errors must not go to stdout. */
  ownsStdout = false;
  readonly #surroundings: Surroundings;
  readonly #stop = new AbortController();
  #heedsStop = false;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
  }

  /**
   * Makes an action for commander of `handler(session, ...arguments, options)`. The number that it returns, if any, is the
   * exit code.
   */
  action<A extends unknown[]>(
    handler: (session: Session, ...args: A) => Promise<number | undefined>,
    options: HandlerOptions<A> = {},
  ): (...args: unknown[]) => Promise<void> {
    return async (...all) => {
      const command = all.at(-1) as PitrCommand;
      const args = all.slice(0, -1) as A;
      this.#heedsStop = options.heedsStop ?? false;
      this.ownsStdout = options.ownsStdout?.(...args) ?? false;
      const flags = command.optsWithGlobals();
      const name = command.path.replace(/^\S+ /, '');
      const session = new Session(name, flags, this.#surroundings, this.#stop.signal);
      this.exitCode = (await this.#untilStopped(command.path, handler(session, ...args))) ?? 0;
    };
  }

  /** A signal arrived. A second one finds nobody patient. */
  interrupt(): 'stopping' | 'impatient' {
    if (this.#stop.signal.aborted) return 'impatient';
    this.#stop.abort();
    return 'stopping';
  }

  /** Prints what went wrong. */
  report(error: unknown, json: boolean): number {
    const { stdout, stderr, env } = this.#surroundings;
    return reportError(error, { json, stdout: this.ownsStdout ? stderr : stdout, stderr, env });
  }

  #untilStopped<T>(what: string, work: Promise<T>): Promise<T> {
    if (this.#heedsStop) return work;
    const { signal } = this.#stop;
    const stopped = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new PitrError('interrupted', { what })), { once: true });
    });
    // the loser of the race must not end the process as an unhandled rejection
    work.catch(() => undefined);
    return Promise.race([work, stopped]);
  }
}
