import { PitrError } from '../../errors.ts';
import { Info3 } from '../bits.ts';
import { malformed } from '../malformed.ts';
import { MessageView } from '../message.ts';
import { MessageWriter } from '../message-writer.ts';
import { ProtoType } from '../proto.ts';
import { ResultCode } from '../result-code.ts';
import type { Settings } from './client-options.ts';
import type { ClusterNode } from './cluster-node.ts';
import type { CommandRun, Transport } from './command-run.ts';
import { writeBatch } from './command-writer.ts';
import type { Connection } from './connection.ts';

/** Rows and bytes of one request, and requests at a time to one node. */
export interface BatchBounds {
  /** Default 200. */
  readonly rowsMax: number;
  /** Default 1 MiB; a row is sent whatever its size. */
  readonly bytesMax: number;
  /** Default 2. */
  readonly concurrency: number;
}

export const DEFAULT_BATCH_BOUNDS: BatchBounds = { rowsMax: 200, bytesMax: 1024 * 1024, concurrency: 2 };

/** Many rows in one request; the server answers them in any order, by number. */
export const batched =
  (settings: Settings, bounds: BatchBounds): Transport =>
  async (run, node, indexes) => {
    let from = 0;
    const worker = async (): Promise<void> => {
      const writer = new MessageWriter();
      while (from < indexes.length) {
        const first = from;
        const timeoutMs = Math.ceil(run.remainingMs());
        if (timeoutMs <= 0) {
          from = indexes.length;
          for (const i of indexes.slice(first)) run.expired(i, false, node.name);
          return;
        }
        from = writeBatch(writer, run.commands, indexes, first, bounds, timeoutMs);
        await callOnce(run, node, settings, writer.take(), indexes.slice(first, from), timeoutMs);
      }
    };
    await Promise.all(Array.from({ length: bounds.concurrency }, worker));
  };

/** Sends one request and settles its rows. */
const callOnce = async (
  run: CommandRun,
  node: ClusterNode,
  settings: Settings,
  request: Buffer,
  indexes: readonly number[],
  timeoutMs: number,
): Promise<void> => {
  const open = new Set(indexes);
  let connection: Connection | undefined;
  let wasSent = false;
  try {
    connection = await node.pool.acquire(Math.min(timeoutMs, settings.connectTimeoutMs));
    wasSent = true;
    const code = await receive(run, connection, settings, request, open, timeoutMs);
    // without a word of its own a row shares the fate of the request
    for (const i of open) {
      if (code !== ResultCode.ok) run.refused(i, code);
      else run.failed(i, malformed(`no answer to row ${i} of a batch`), true);
    }
  } catch (error) {
    const failure =
      error instanceof PitrError ? error : new PitrError('internal', { what: `${error}` }, { cause: error });
    for (const i of open) run.failed(i, failure, wasSent);
  } finally {
    if (connection) node.pool.release(connection);
  }
};

/** Resolves with the code of the last message. */
const receive = (
  run: CommandRun,
  connection: Connection,
  { timing, socketTimeoutMs }: Settings,
  request: Buffer,
  open: Set<number>,
  timeoutMs: number,
): Promise<number> =>
  new Promise((resolve, reject) => {
    const view = new MessageView();
    const ms = Math.min(timeoutMs, socketTimeoutMs);
    const cancel = timing.after(ms, () =>
      connection.destroy(
        new PitrError('aerospike-timeout', { what: 'a batch', ms, node: connection.address }),
      ),
    );
    connection.attach({
      frame: (type, body) => {
        if (type !== ProtoType.message) throw malformed(`a frame of type ${type} answers a batch`);
        for (let at = 0; at < body.length; ) {
          const start = at;
          at = view.parse(body, at);
          if (view.info3 & Info3.last) {
            if (at !== body.length) throw malformed('messages follow the last one of a batch');
            cancel();
            connection.attach(undefined);
            resolve(view.result);
            return;
          }
          const row = view.transactionTtl;
          if (!open.delete(row)) throw malformed(`an answer to row ${row}, which was not asked`);
          run.answered(row, view, start, at);
        }
      },
      lost: (error) => {
        cancel();
        reject(error);
      },
    });
    connection.write(request);
  });
