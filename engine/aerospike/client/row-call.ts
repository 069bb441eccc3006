import { PitrError } from '../../errors.ts';
import { Info3 } from '../bits.ts';
import { malformed } from '../malformed.ts';
import { MessageView } from '../message.ts';
import { ProtoType } from '../proto.ts';
import { isRetryable, ResultCode } from '../result-code.ts';
import { backoffMs } from './backoff.ts';
import type { Settings } from './client-options.ts';
import type { Cluster } from './cluster.ts';
import type { ClusterNode } from './cluster-node.ts';
import { NO_ANSWER } from './command-results.ts';
import type { Connection } from './connection.ts';
import type { RowBatch } from './row-batch.ts';
import { sleep } from './timing.ts';

/** Takes the answer to a row; the view holds until it returns. */
export type RowAnswer = (row: number, answer: MessageView) => void;

/**
 * Sends the rows of a batch to their masters until each has its code, or attempts are over; then {@link RowBatch.codes} says what came of
 * each. Every row may be done twice: only for those that state all that they write, or read (N6).
 * @throws aerospike-closed, and what is no fault of a socket
 */
export class RowCall {
  readonly #batch: RowBatch;
  readonly #cluster: Cluster;
  readonly #settings: Settings;
  readonly #onAnswer: RowAnswer | undefined;
  readonly #view = new MessageView();

  constructor(batch: RowBatch, cluster: Cluster, settings: Settings, onAnswer: RowAnswer | undefined) {
    this.#batch = batch;
    this.#cluster = cluster;
    this.#settings = settings;
    this.#onAnswer = onAnswer;
  }

  async finish(): Promise<void> {
    const { attemptsMax, backoff, random, timing } = this.#settings;
    for (let attempt = 1; ; attempt++) {
      await this.#round();
      if (attempt === attemptsMax || !this.#isAnyLeft(this.#batch)) return;
      this.#cluster.assertOpen('the rows were answered');
      const waitMs = backoffMs(backoff, attempt, random);
      await Promise.all([
        sleep(timing, waitMs, this.#cluster.signal),
        Promise.race([this.#cluster.tend(), sleep(timing, 2 * waitMs, this.#cluster.signal)]),
      ]);
      this.#cluster.assertOpen('the rows were answered');
    }
  }

  #isAnyLeft({ rows }: RowBatch): boolean {
    for (let row = 0; row < rows; row++) if (this.#isOpen(row)) return true;
    return false;
  }

  #isOpen(row: number): boolean {
    const code = this.#batch.codes[row];
    return code === NO_ANSWER || isRetryable(code) || code === ResultCode.batchQueuesFull;
  }

  /** Sends what is open, a request to each master. */
  async #round(): Promise<void> {
    const batch = this.#batch;
    const byNode = new Map<ClusterNode, number[]>();
    let open = 0;
    let lastNode: ClusterNode | undefined;
    let lastPartition = -1;
    let lastNamespace = '';
    let list: number[] = [];
    for (let row = 0; row < batch.rows; row++) {
      if (!this.#isOpen(row)) continue;
      open++;
      const partition = batch.partitions[row];
      const namespace = batch.namespaces[row];
      if (partition !== lastPartition || namespace !== lastNamespace) {
        const node = this.#cluster.ownerOf(namespace, partition);
        if (!node && !this.#cluster.map.has(namespace)) {
          batch.codes[row] = ResultCode.badNamespace;
          continue;
        }
        if (!node) batch.failure = new PitrError('aerospike-unowned', { namespace, partition });
        if (node !== lastNode && node) {
          list = byNode.get(node) ?? [];
          byNode.set(node, list);
        }
        lastNode = node;
        lastPartition = partition;
        lastNamespace = namespace;
      }
      if (lastNode) list.push(row);
    }
    await Promise.all(
      [...byNode].map(([node, rows]) => this.#call(node, rows, rows.length === open && open === batch.rows)),
    );
  }

  async #call(node: ClusterNode, rows: readonly number[], isWhole: boolean): Promise<void> {
    const batch = this.#batch;
    const { commandTimeoutMs: timeoutMs, connectTimeoutMs } = this.#settings;
    // a code of an earlier attempt is not that of this one
    for (const row of rows) batch.codes[row] = NO_ANSWER;
    let connection: Connection | undefined;
    try {
      connection = await node.pool.acquire(connectTimeoutMs);
      const request = isWhole ? batch.frame(timeoutMs) : batch.frameOf(rows, timeoutMs);
      const code = await this.#receive(connection, request, timeoutMs);
      // without a word of its own a row shares the fate of the request
      for (const row of rows)
        if (batch.codes[row] === NO_ANSWER) {
          if (code === ResultCode.ok) throw malformed(`no answer to row ${row} of a batch`);
          batch.codes[row] = code;
        }
    } catch (error) {
      if (!(error instanceof PitrError) || !PASSING.has(error.id)) throw error;
      batch.failure = error;
    } finally {
      if (connection) node.pool.release(connection);
    }
  }

  /** Resolves with the code of the last message. */
  #receive(connection: Connection, request: Buffer, timeoutMs: number): Promise<number> {
    const { timing, socketTimeoutMs } = this.#settings;
    const ms = Math.min(timeoutMs, socketTimeoutMs);
    const view = this.#view;
    const { codes, rows } = this.#batch;
    return new Promise((resolve, reject) => {
      const cancel = timing.after(ms, () =>
        connection.destroy(
          new PitrError('aerospike-timeout', { what: 'a batch', ms, node: connection.address }),
        ),
      );
      connection.attach({
        frame: (type, body) => {
          if (type !== ProtoType.message) throw malformed(`a frame of type ${type} answers a batch`);
          for (let at = 0; at < body.length; ) {
            at = view.parse(body, at);
            if (view.info3 & Info3.last) {
              if (at !== body.length) throw malformed('messages follow the last one of a batch');
              cancel();
              connection.attach(undefined);
              resolve(view.result);
              return;
            }
            const row = view.transactionTtl;
            if (row >= rows || codes[row] !== NO_ANSWER)
              throw malformed(`an answer to row ${row}, which was not asked`);
            codes[row] = view.result;
            this.#onAnswer?.(row, view);
          }
        },
        lost: (error) => {
          cancel();
          reject(error);
        },
      });
      connection.write(request);
    });
  }
}

/** Failures that go away by themselves. */
const PASSING = new Set<string>(['aerospike-unowned', 'aerospike-connection-lost', 'aerospike-timeout']);
