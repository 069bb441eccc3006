import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { COMPILED_ONCE } from '../cli/bench/isolate.ts';
import { type Memory, MemoryWatch } from '../cli/bench/memory.ts';
import { PitrError } from '../engine/errors.ts';

const PROGRAM = fileURLToPath(new URL('../cli/pitr.ts', import.meta.url));
/** Of `/proc/PID/stat`: the kernel's unit of processor time. */
const TICKS_PER_SECOND = 100;

/** `pitr agent` of one directory, as whoever runs it has it. */
export class Agent {
  readonly #process: ChildProcess;
  readonly #watch: MemoryWatch;
  #log = '';

  private constructor(dir: string) {
    this.#process = spawn(process.execPath, [PROGRAM, 'agent', dir, '--log-format', 'json'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...COMPILED_ONCE },
    });
    this.#watch = new MemoryWatch(this.#process.pid ?? 0);
    this.#process.stderr?.on('data', (text) => {
      this.#log += text;
    });
    // a benchmark that fails must not leave it behind
    process.once('exit', this.kill);
  }

  /** Returns when it archives. */
  static async start(dir: string): Promise<Agent> {
    const agent = new Agent(dir);
    while (!agent.#log.includes('"archiving"')) {
      const ended = once(agent.#process, 'exit').then(() => agent.#failed());
      await Promise.race([once(agent.#process.stderr!, 'data'), ended]);
    }
    return agent;
  }

  /** Seconds that all its threads have used so far; NaN where the system does not tell. */
  get cpuSeconds(): number {
    try {
      const stat = readFileSync(`/proc/${this.#process.pid}/stat`, 'utf8');
      // after the name, which is in brackets and may hold anything
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
    } catch {
      return Number.NaN;
    }
  }

  /** Lets it ship what is sealed and end. @throws internal when it had anything to complain about */
  async stop(): Promise<Memory> {
    this.#process.kill('SIGTERM');
    if (this.#process.exitCode === null) await once(this.#process, 'exit');
    process.off('exit', this.kill);
    const memory = this.#watch.stop();
    if (this.#process.exitCode !== 0 || this.#log.includes('"level":"error"')) this.#failed();
    return memory;
  }

  readonly kill = (): void => void this.#process.kill('SIGKILL');

  #failed(): never {
    throw new PitrError('internal', { what: `pitr agent: ${this.#log.slice(-2000)}` });
  }
}
