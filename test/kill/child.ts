import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** How long anything may take that must happen, ms. Far above what it takes: it ends a test that hangs. */
const PATIENCE_MS = 40_000;

/** Processes that are kept ready: one for each processor that a test may have. */
const SPARES = 2;

/** A process of the test, its lines, and its end. */
export class Child {
  static readonly #alive = new Set<Child>();
  static readonly #spares: ChildProcess[] = [];

  /** A process that has loaded everything and waits for its script; it ends with this one. */
  static #spawn(): ChildProcess {
    const spare = spawn(process.execPath, [join(import.meta.dirname, 'role.ts')], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    Child.#hold(spare, false);
    return spare;
  }

  /** Whether the test waits for it to end. */
  static #hold(child: ChildProcess, isHeld: boolean): void {
    for (const it of [child, child.stdin, child.stdout, child.stderr] as { ref(): void; unref(): void }[])
      if (isHeld) it.ref();
      else it.unref();
  }

  /** Ends what a test that failed has left running. */
  static async killAll(): Promise<void> {
    for (const spare of Child.#spares.splice(0)) spare.kill('SIGKILL');
    await Promise.all([...Child.#alive].map((child) => child.kill()));
  }

  readonly name: string;
  readonly #process: ChildProcess;
  readonly #lines: string[] = [];
  readonly #ended: Promise<void>;
  #stderr = '';
  #heard: () => void = () => undefined;
  #over = false;

  constructor(script: string, args: readonly string[], onLine: (line: string) => void = () => undefined) {
    this.name = script;
    this.#process = Child.#spares.shift() ?? Child.#spawn();
    while (Child.#spares.length < SPARES) Child.#spares.push(Child.#spawn());
    Child.#hold(this.#process, true);
    this.#process.stdin?.on('error', () => undefined);
    this.#process.stdin?.end(`${JSON.stringify({ script, args })}\n`);
    this.#process.stderr?.on('data', (text) => {
      this.#stderr += text;
    });
    const lines = createInterface({ input: this.#process.stdout as NodeJS.ReadableStream });
    lines.on('line', (line) => {
      this.#lines.push(line);
      onLine(line);
      this.#heard();
    });
    Child.#alive.add(this);
    this.#ended = Promise.all([once(this.#process, 'close'), once(lines, 'close')]).then(() => {
      this.#over = true;
      Child.#alive.delete(this);
      this.#heard();
    });
  }

  /** The first line, from now on or before, that `wanted` accepts. */
  async line(wanted: (line: string) => boolean): Promise<string> {
    const endMs = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = this.#lines.find(wanted);
      if (found !== undefined) return found;
      if (this.#over) throw new Error(`${this.name} ended: ${this.report()}`);
      if (Date.now() > endMs) throw new Error(`${this.name} says nothing: ${this.report()}`);
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
        setTimeout(resolve, 1000).unref();
      });
    }
  }

  /** Whether it says such a line within this time: where the others may well keep it from getting there. */
  async saysWithin(ms: number, wanted: (line: string) => boolean): Promise<boolean> {
    const endMs = Date.now() + ms;
    while (Date.now() < endMs && !this.#over) {
      if (this.#lines.some(wanted)) return true;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return false;
  }

  /** SIGKILL, and all that it had said by then. True when it was the kill that ended the process. */
  async kill(): Promise<boolean> {
    this.#process.kill('SIGKILL');
    await this.#ended;
    return this.#process.signalCode === 'SIGKILL';
  }

  /** SIGSTOP: it holds its locks and its open files, and does nothing, until {@link wake}. */
  pause(): void {
    this.#process.kill('SIGSTOP');
  }

  wake(): void {
    this.#process.kill('SIGCONT');
  }

  /** Waits for the end. @throws when it did not exit with 0 */
  async success(): Promise<string[]> {
    await this.#ended;
    if (this.#process.exitCode !== 0) throw new Error(`${this.name} failed: ${this.report()}`);
    return this.#lines;
  }

  report(): string {
    return `exit ${this.#process.exitCode} ${this.#process.signalCode}\n${this.#lines.slice(-5).join('\n')}\n${this.#stderr}`;
  }
}
