/** One capture directory and the process that works on it, which is killed and started again. */
import { callDoor } from '../../../engine/door.ts';
import type { PartitionSet } from '../../../engine/partition.ts';
import { initCapture } from '../../../wal/capture/capture-dir.ts';
import { Child } from '../../kill/child.ts';
import type { AgentOptions, Said } from './agent.ts';
import type { Span } from './truth.ts';

export interface CaptureOptions extends AgentOptions {
  readonly archive: string;
  readonly stream: string;
  readonly partitions: PartitionSet;
  readonly namespaces: readonly string[];
  readonly sets: readonly string[] | null;
  readonly url: string;
}

export class Capture {
  readonly options: CaptureOptions;
  /** Clocks with which polls began that stated their frontier, over all lives. */
  readonly statedMs: number[] = [];
  /** Clocks with which copies began. */
  readonly copiedMs: number[] = [];
  /** Copies, and polls that stated their frontier: each saw everything that was there all the time from its clock to its end. */
  readonly looks: Span[] = [];
  readonly counts = {
    kills: 0,
    polls: 0,
    copies: 0,
    copiesAgain: 0,
    failed: 0,
    merges: 0,
    late: 0,
    missed: 0,
    waits: 0,
  };
  readonly errors: string[] = [];
  /** Told of what the agent says. */
  readonly #onLine: (line: string) => void;
  #child: Child | undefined;

  /** The server's clock, or later. */
  readonly #nowMs: () => number;

  private constructor(options: CaptureOptions, onLine: (line: string) => void, nowMs: () => number) {
    this.options = options;
    this.#onLine = onLine;
    this.#nowMs = nowMs;
  }

  static async init(
    options: CaptureOptions,
    onLine: (line: string) => void,
    nowMs: () => number,
  ): Promise<Capture> {
    const { dir, archive, stream, partitions, namespaces, sets, url } = options;
    await initCapture(dir, { kind: 'aerospike', url, namespaces, sets }, { archive, stream, partitions });
    return new Capture(options, onLine, nowMs);
  }

  /** Waits until it copies: there is nothing yet to go on with. */
  async copying(): Promise<void> {
    await this.#child?.line((line) => line.includes('"copying"'));
  }

  start(): void {
    if (this.#child) return;
    const { dir, hosts, pollMs, groups, fanout } = this.options;
    const args = JSON.stringify({ dir, hosts, pollMs, groups, fanout } satisfies AgentOptions);
    this.#child = new Child('../capture/model/agent.ts', [args], (line) => this.#heard(line));
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.#child = undefined;
    if (!(await child.kill())) this.errors.push(`ended by itself: ${child.report()}`);
    this.counts.kills++;
  }

  /** A mark at the frontier of a poll that begins now. */
  async mark(name: string): Promise<{ ts: number }> {
    return (await callDoor(this.options.dir, 'mark', { name }, { timeoutMs: 20_000 })) as { ts: number };
  }

  #heard(line: string): void {
    const said = JSON.parse(line) as Said;
    const { counts } = this;
    this.#onLine(`${this.options.stream} ${line}`);
    switch (said.at) {
      case 'polled':
        counts.polls++;
        counts.late += said.late;
        counts.missed += said.missed;
        if (said.why !== '') counts.waits++;
        if (!said.isStated) return;
        this.statedMs.push(said.serverMs);
        this.looks.push({ fromMs: said.serverMs, toMs: this.#nowMs() });
        return;
      case 'copying':
        counts.copies++;
        this.copiedMs.push(said.clockMs);
        // its end is not told: the poll after it is
        this.looks.push({ fromMs: said.clockMs, toMs: Number.POSITIVE_INFINITY });
        return;
      case 'copyAgain':
        counts.copiesAgain++;
        return;
      case 'baseCopy':
        return;
      case 'failed':
        counts.failed++;
        return;
      case 'merged':
        counts.merges++;
        return;
      case 'error':
      case 'gap':
        this.errors.push(line);
        return;
      default:
        said satisfies never;
    }
  }
}
