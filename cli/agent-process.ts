import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** How long to wait before an agent that has ended by itself is started again. */
const RESTART_MS = 5000;

/** The program that this process runs, from source or built. */
const PROGRAM = fileURLToPath(new URL(`./pitr${import.meta.url.slice(-3)}`, import.meta.url));

export interface AgentProcessOptions {
  readonly dir: string;
  /** Options of `pitr agent` beside the directory. */
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** It ended by itself; it is started again unless it said that another agent has the stream. */
  readonly onExit: (code: number | null) => void;
  /** What must not happen twice: these exit codes mean that starting it again would not help. */
  readonly finalCodes: readonly number[];
}

/**
 * `pitr agent` as a child process, so that compression and merges have a thread of their own. It ends when this process does, however
 * that ends: its channel closes then.
 */
export class AgentProcess {
  readonly #options: AgentProcessOptions;
  #child: ChildProcess | undefined;
  #restart: NodeJS.Timeout | undefined;
  #isStopping = false;
  /** It ended with a code of {@link AgentProcessOptions.finalCodes}. */
  #isFinal = false;

  constructor(options: AgentProcessOptions) {
    this.#options = options;
    this.#start();
  }

  #start(): void {
    const { onExit, finalCodes } = this.#options;
    const child = this.#fork();
    this.#child = child;
    child.once('exit', (code) => {
      this.#child = undefined;
      if (this.#isStopping) return;
      onExit(code);
      this.#isFinal = code !== null && finalCodes.includes(code);
      if (this.#isFinal) return;
      this.#restart = setTimeout(() => this.#start(), RESTART_MS);
    });
  }

  #fork(...more: readonly string[]): ChildProcess {
    const { dir, args, cwd, env } = this.#options;
    // what it says of itself on stdout is not this command's result
    return fork(PROGRAM, ['agent', dir, ...args, ...more], {
      cwd,
      env,
      // a group of its own: Ctrl-C must not end it before the last log is sealed
      detached: true,
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
  }

  /** Has it ship what is sealed and end; one that is not there, or has not come as far as to heed a signal, is given another go. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    clearTimeout(this.#restart);
    const child = this.#child;
    if (this.#isFinal) return;
    if (child) {
      const ended = codeOf(child);
      child.kill('SIGTERM');
      // null: the signal ended it before it heard of it
      if ((await ended) !== null) return;
    }
    const code = await codeOf(this.#fork('--once'));
    if (code !== 0) this.#options.onExit(code);
  }
}

const codeOf = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => child.once('exit', (code) => resolve(code)));
