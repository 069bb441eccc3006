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

  constructor(options: AgentProcessOptions) {
    this.#options = options;
    this.#start();
  }

  #start(): void {
    const { dir, args, cwd, env, onExit, finalCodes } = this.#options;
    // what it says of itself on stdout is not this command's result
    const child = fork(PROGRAM, ['agent', dir, ...args], {
      cwd,
      env,
      // a group of its own: Ctrl-C must not end it before the last log is sealed
      detached: true,
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#child = child;
    child.once('exit', (code) => {
      this.#child = undefined;
      if (this.#isStopping) return;
      onExit(code);
      if (code !== null && finalCodes.includes(code)) return;
      this.#restart = setTimeout(() => this.#start(), RESTART_MS);
    });
  }

  /** Has it ship what is sealed and end. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    clearTimeout(this.#restart);
    const child = this.#child;
    if (!child) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
  }
}
