import type { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import type { ClusterNode } from '../../engine/aerospike/client/cluster-node.ts';
import { NO_ANSWER } from '../../engine/aerospike/client/command-results.ts';
import { RowBatch, type RowKind, type RowPlace } from '../../engine/aerospike/client/row-batch.ts';
import type { RowAnswer } from '../../engine/aerospike/client/row-call.ts';
import { ResultCode, resultCodeName } from '../../engine/aerospike/result-code.ts';
import { PitrError } from '../../engine/errors.ts';

const BATCH_BYTES_MAX = 256 * 1024;
/** Batches on their way at once. */
const IN_FLIGHT_MAX = 4;

/** Codes about the cluster and not about a record (C2). */
const ENDING: ReadonlySet<number> = new Set([
  ResultCode.clusterKeyMismatch,
  ResultCode.outOfSpace,
  ResultCode.timeout,
  ResultCode.partitionUnavailable,
  ResultCode.queryAborted,
  ResultCode.deviceOverload,
  ResultCode.badNamespace,
  ResultCode.securityNotSupported,
  ResultCode.securityNotEnabled,
  ResultCode.invalidCredential,
  ResultCode.expiredSession,
  ResultCode.notAuthenticated,
  ResultCode.roleViolation,
  ResultCode.notWhitelisted,
  ResultCode.quotaExceeded,
  ResultCode.batchDisabled,
  ResultCode.batchMaxRequests,
  ResultCode.batchQueuesFull,
]);

export interface SenderOptions {
  readonly client: AerospikeClient;
  readonly kind: RowKind;
  readonly rowsMax: number;
  /** For the error that ends the run: `the write`. */
  readonly what: string;
  /** The code of a row that is the record's own matter. */
  readonly onCode: (batch: RowBatch, row: number, code: number) => void;
  readonly onAnswer?: (batch: RowBatch) => RowAnswer;
}

/**
 * Fills batches of one kind of rows, one for each master, and sends what is full, a few at a time. The caller waits in {@link room} when
 * it hears that too many are on their way.
 */
export class RowSender {
  readonly #options: SenderOptions;
  readonly #open = new Map<ClusterNode | undefined, RowBatch>();
  readonly #spare: RowBatch[] = [];
  readonly #inFlight = new Set<Promise<void>>();
  #failure: unknown;
  #lastNode: ClusterNode | undefined;
  #lastPartition = -1;
  #lastNamespace = '';

  constructor(options: SenderOptions) {
    this.#options = options;
  }

  /** The batch that the next row of this partition goes into. */
  batchFor({ namespace }: RowPlace, partition: number): RowBatch {
    if (partition !== this.#lastPartition || namespace !== this.#lastNamespace) {
      this.#lastNode = this.#options.client.ownerOf(namespace, partition);
      this.#lastPartition = partition;
      this.#lastNamespace = namespace;
    }
    let batch = this.#open.get(this.#lastNode);
    if (!batch) {
      const { kind, rowsMax } = this.#options;
      batch = this.#spare.pop() ?? new RowBatch(kind, rowsMax, BATCH_BYTES_MAX);
      this.#open.set(this.#lastNode, batch);
    }
    return batch;
  }

  /** A row was added to `batch`: sends it when it is full. Returns true when the caller should wait in {@link room}. */
  added(batch: RowBatch): boolean {
    if (!batch.isFull) return false;
    this.#send(batch);
    return this.#inFlight.size >= IN_FLIGHT_MAX;
  }

  /** Waits until another batch may go. @throws what ended one */
  async room(): Promise<void> {
    while (this.#inFlight.size >= IN_FLIGHT_MAX && this.#failure === undefined)
      await Promise.race(this.#inFlight);
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Sends what is left and waits for everything. @throws what ended one */
  async finish(): Promise<void> {
    for (const batch of [...this.#open.values()]) {
      await this.room();
      if (batch.rows > 0) this.#send(batch);
    }
    await Promise.all(this.#inFlight);
    if (this.#failure !== undefined) throw this.#failure;
  }

  #send(batch: RowBatch): void {
    this.#open.delete(this.#keyOf(batch));
    const sending = this.#sendOne(batch)
      .catch((error) => {
        this.#failure ??= error;
      })
      .finally(() => this.#inFlight.delete(sending));
    this.#inFlight.add(sending);
  }

  #keyOf(batch: RowBatch): ClusterNode | undefined {
    for (const [node, open] of this.#open) if (open === batch) return node;
    return undefined;
  }

  async #sendOne(batch: RowBatch): Promise<void> {
    const { client, onAnswer, onCode, what } = this.#options;
    await client.sendRows(batch, onAnswer?.(batch));
    for (let row = 0; row < batch.rows; row++) {
      const code = batch.codes[row];
      if (code === NO_ANSWER)
        throw batch.failure ?? new PitrError('internal', { what: `${what} without an answer` });
      if (ENDING.has(code))
        throw new PitrError('aerospike-result', { what, code, name: resultCodeName(code) });
      onCode(batch, row, code);
    }
    batch.clear();
    this.#spare.push(batch);
  }
}
