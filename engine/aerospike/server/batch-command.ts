import { isPitrError } from '../../errors.ts';
import { BatchFlag, BatchView } from '../batch.ts';
import { Info2, Info3 } from '../bits.ts';
import { FieldId } from '../field.ts';
import type { MessageView } from '../message.ts';
import type { MessageWriter } from '../message-writer.ts';
import { ResultCode } from '../result-code.ts';
import type { RecordCommand } from './record-command.ts';

/** Bytes of one frame of an answer. */
const FRAME_BYTES = 128 * 1024;
/** Bytes of an answer after which it is sent as far as it is. */
const SEND_BYTES = 1024 * 1024;
/** Rows after which others have their turn. */
const ROWS_AT_ONCE = 2048;

/** What a batch needs of the connection that it came by. */
export interface BatchHost {
  /** Undefined: a write may be decided now. Else resolves when it may, or with the code that it is refused with. */
  writable(): Promise<number> | undefined;
  /** Makes what was decided durable and sends what was answered. */
  flush(): Promise<void>;
  readonly isClosed: boolean;
}

/**
 * Carries out the rows of a batch, each a command of its own, in order; writes their answers and the last message. What becomes of a
 * batch of which a row fails is said by its flags: all rows are answered, or only that code is.
 */
export const runBatch = async (
  m: MessageView,
  command: RecordCommand,
  out: MessageWriter,
  host: BatchHost,
): Promise<void> => {
  const batch = new BatchView();
  let result: number;
  try {
    batch.parse(m.field(FieldId.batch) ?? m.field(FieldId.batchWithSet) ?? NO_ROWS);
    result = await runRows(batch, m.field(FieldId.filter), command, out, host);
  } catch (error) {
    if (!isPitrError(error, 'wire-malformed')) throw error;
    result = Number(error.facts.result);
  }
  if (!host.isClosed) out.status(result, 0, 0, Info3.last);
};

const NO_ROWS = Buffer.alloc(5);

/** Returns the code of the whole batch. */
const runRows = async (
  batch: BatchView,
  filter: Buffer | undefined,
  command: RecordCommand,
  out: MessageWriter,
  host: BatchHost,
): Promise<number> => {
  if (batch.count === 0) return ResultCode.parameter;
  const answersAll = (batch.flags & (BatchFlag.respondAll | BatchFlag.reportErrors)) !== 0;
  let begun = out.length;
  let isOpen = false;
  let rows = 0;
  let result: number = ResultCode.ok;
  const flush = async (): Promise<void> => {
    if (isOpen) out.endFrame();
    isOpen = false;
    await host.flush();
    begun = out.length;
    // others have their turn, also when nothing had to be waited for
    await new Promise(setImmediate);
  };
  try {
    while (batch.next()) {
      const { row } = batch;
      // nobody may carry it out in part
      if (!command.knowsNamespace(row)) return ResultCode.parameter;
      let refusal = 0;
      if (row.info2 & Info2.write)
        for (let wait = host.writable(); wait && refusal === 0; wait = host.writable()) {
          await flush();
          refusal = await wait;
        }
      if (!isOpen) out.beginFrame();
      isOpen = true;
      const code =
        refusal !== 0
          ? command.refuse(row, out, refusal, batch.index)
          : command.run(row, out, batch.bytes, batch.digestStart, filter, batch.index);
      if (!isOrdinary(code)) {
        if (result === ResultCode.ok) result = code;
      }
      if (result !== ResultCode.ok && !answersAll) {
        // the rest is done, and not told
        out.truncate(begun);
        isOpen = false;
      }
      if (isOpen && out.frameBytes >= FRAME_BYTES) {
        out.endFrame();
        isOpen = false;
      }
      if (out.length >= SEND_BYTES || ++rows % ROWS_AT_ONCE === 0) await flush();
      if (host.isClosed) break;
    }
  } finally {
    // rows before one that cannot be read stay answered
    if (isOpen) out.endFrame();
  }
  return batch.flags & BatchFlag.respondAll ? ResultCode.ok : result;
};

/** What says something about the record only. */
const isOrdinary = (code: number): boolean =>
  code === ResultCode.ok || code === ResultCode.notFound || code === ResultCode.filteredOut;
