import { BatchFlag, BatchView } from '../batch.ts';
import { Info2, Info3 } from '../bits.ts';
import { FieldId } from '../field.ts';
import { malformed } from '../malformed.ts';
import type { MessageView } from '../message.ts';
import type { MessageWriter } from '../message-writer.ts';
import { PROTO_HEADER_BYTES } from '../proto.ts';
import { ResultCode } from '../result-code.ts';
import type { RecordCommand } from './record-command.ts';

/** Bytes of one frame of an answer. */
const FRAME_BYTES = 128 * 1024;
/** Bytes of an answer after which it is sent as far as it is. */
const SEND_BYTES = 1024 * 1024;

/** What a batch needs of the connection that it came by. */
export interface BatchHost {
  /** Resolves when a write may be decided; undefined: now. */
  writable(): Promise<void> | undefined;
  /** Makes what was decided durable and sends what was answered. */
  flush(): Promise<void>;
  readonly isClosed: boolean;
}

/** Carries out the rows of a batch, each a command of its own, in order; writes their answers and the last message. */
export const runBatch = async (
  m: MessageView,
  command: RecordCommand,
  out: MessageWriter,
  host: BatchHost,
): Promise<void> => {
  const rows = m.field(FieldId.batch) ?? m.field(FieldId.batchWithSet);
  if (!rows) throw malformed('a batch without rows');
  const batch = new BatchView();
  batch.parse(rows);
  const filter = m.field(FieldId.filter);
  const answersAll = (batch.flags & BatchFlag.respondAll) !== 0;
  let isOpen = false;
  let result: number = ResultCode.ok;
  const closeFrame = (): void => {
    if (!isOpen) return;
    // its only message may have been given up
    if (out.frameBytes > PROTO_HEADER_BYTES) out.endFrame();
    else out.dropFrame();
    isOpen = false;
  };
  try {
    while (batch.next()) {
      const { row } = batch;
      if (row.info2 & Info2.write)
        for (let wait = host.writable(); wait; wait = host.writable()) {
          closeFrame();
          await host.flush();
          await wait;
        }
      if (!isOpen) out.beginFrame();
      isOpen = true;
      result = command.run(row, out, batch.bytes, batch.digestStart, filter, batch.index);
      // a namespace that is not there ends it all, as on the server
      if (isFatal(result) || (!answersAll && !isOrdinary(result))) {
        out.dropMessage();
        break;
      }
      result = ResultCode.ok;
      if (out.frameBytes >= FRAME_BYTES) closeFrame();
      if (out.length < SEND_BYTES) continue;
      closeFrame();
      await host.flush();
      if (host.isClosed) return;
    }
  } finally {
    // rows before one that cannot be read stay answered
    closeFrame();
  }
  out.status(result, 0, 0, Info3.last);
};

const isFatal = (code: number): boolean => code === ResultCode.badNamespace;

/** What says something about the record only. */
const isOrdinary = (code: number): boolean =>
  code === ResultCode.ok || code === ResultCode.notFound || code === ResultCode.filteredOut;
