import { PitrError } from '../../errors.ts';
import { partitionOf } from '../../partition.ts';
import type { MessageView } from '../message.ts';
import { isRetryable } from '../result-code.ts';
import { backoffMs } from './backoff.ts';
import type { Settings } from './client-options.ts';
import type { Cluster } from './cluster.ts';
import type { ClusterNode } from './cluster-node.ts';
import type { RecordCommand } from './command.ts';
import { CommandResults, isUnclear } from './command-results.ts';
import { sleep } from './timing.ts';

/**
 * Sends the commands at `indexes` of a run to `node`. Every one of them is settled by the time that it resolves: the transport
 * calls {@link CommandRun.answered}, {@link CommandRun.refused} or {@link CommandRun.failed} once for each. Never rejects.
 */
export type Transport = (run: CommandRun, node: ClusterNode, indexes: readonly number[]) => Promise<void>;

/** Commands on their way: sent to the master of each, and those that may be are sent again, until none is left or the time is over. */
export class CommandRun {
  readonly commands: readonly RecordCommand[];
  readonly results: CommandResults;
  deadlineMs = 0;
  readonly #timeoutMs: number;
  readonly #cluster: Cluster;
  readonly #settings: Settings;
  readonly #transport: Transport;
  /** What the next round has. */
  #again: number[] = [];

  constructor(
    commands: readonly RecordCommand[],
    cluster: Cluster,
    settings: Settings,
    transport: Transport,
    timeoutMs: number,
  ) {
    this.commands = commands;
    this.results = new CommandResults(commands);
    this.#cluster = cluster;
    this.#settings = settings;
    this.#transport = transport;
    this.#timeoutMs = timeoutMs;
  }

  /** Resolves when each of `[start, end)` has its answer or its failure; they have the time for themselves. @throws aerospike-closed */
  async finish(start = 0, end = this.commands.length): Promise<CommandResults> {
    this.deadlineMs = this.#settings.timing.nowMs() + this.#timeoutMs;
    let indexes: number[] = Array.from({ length: end - start }, (_, i) => start + i);
    for (let attempt = 1; ; attempt++) {
      this.#again = [];
      await this.#round(indexes);
      indexes = this.#again;
      if (indexes.length === 0 || attempt === this.#settings.attemptsMax) return this.results;
      this.#cluster.assertOpen('the commands were answered');
      const waitMs = backoffMs(this.#settings.backoff, attempt, this.#settings.random);
      if (waitMs >= this.remainingMs()) return this.results;
      await Promise.all([
        sleep(this.#settings.timing, waitMs, this.#cluster.signal),
        this.#soonTended(waitMs),
      ]);
    }
  }

  /** A partition may have moved: the map is looked at again, but a node that is silent does not use up the time. */
  async #soonTended(waitMs: number): Promise<void> {
    const { timing } = this.#settings;
    await Promise.race([this.#cluster.tend(), sleep(timing, 2 * waitMs, this.#cluster.signal)]);
  }

  remainingMs(): number {
    return this.deadlineMs - this.#settings.timing.nowMs();
  }

  async #round(indexes: readonly number[]): Promise<void> {
    if (indexes.length === 1) {
      const node = this.#ownerOf(indexes[0]);
      if (node) await this.#transport(this, node, indexes);
      return;
    }
    const byNode = new Map<ClusterNode, number[]>();
    for (const i of indexes) {
      const node = this.#ownerOf(i);
      if (!node) continue;
      const list = byNode.get(node);
      if (list) list.push(i);
      else byNode.set(node, [i]);
    }
    await Promise.all([...byNode].map(([node, list]) => this.#transport(this, node, list)));
  }

  #ownerOf(i: number): ClusterNode | undefined {
    const { namespace, digest } = this.commands[i];
    const node = this.#cluster.ownerOfDigest(namespace, digest);
    if (!node)
      this.failed(
        i,
        new PitrError('aerospike-unowned', { namespace, partition: partitionOf(digest) }),
        false,
      );
    return node;
  }

  /** The answer to command `i`: the message in `[start, end)` of what `m` has read. */
  answered(i: number, m: MessageView, start: number, end: number): void {
    this.results.answer(i, m, start, end);
    this.#judge(i, m.result);
  }

  /** The server's code for a command that got no message of its own. */
  refused(i: number, code: number): void {
    this.results.refuse(i, code);
    this.#judge(i, code);
  }

  #judge(i: number, code: number): void {
    if (isRetryable(code) && (!isUnclear(code) || this.#mayRepeat(i))) this.#again.push(i);
  }

  /** No answer. `isUnclear`: it was sent, so it may have been done. */
  failed(i: number, error: PitrError, isUnclear: boolean): void {
    this.results.fail(i, error, isUnclear);
    if (PASSING.has(error.id) && (!isUnclear || this.#mayRepeat(i))) this.#again.push(i);
  }

  /** The time for all attempts is over. `wasSent`: it may have been done. */
  expired(i: number, wasSent: boolean, node: string): void {
    this.failed(
      i,
      new PitrError('aerospike-timeout', { what: 'a command', ms: this.#timeoutMs, node }),
      wasSent,
    );
  }

  #mayRepeat(i: number): boolean {
    return this.commands[i].idempotent;
  }
}

/** Failures that go away by themselves. */
const PASSING = new Set<string>(['aerospike-unowned', 'aerospike-connection-lost', 'aerospike-timeout']);
