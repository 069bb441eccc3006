/** Thread that writes the large transactions of one store: see store-thread.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { changesOfPack } from './change-pack.ts';
import { PitrError } from './errors.ts';
import { Store } from './store.ts';
import type { FromStoreThread, ToStoreThread } from './store-thread.ts';

const port = parentPort;
if (port) {
  const { engineDir } = workerData as { readonly engineDir: string };
  let store: Store | undefined;

  const answer = async (message: ToStoreThread): Promise<FromStoreThread> => {
    if (message.kind === 'close') {
      await store?.close();
      return { kind: 'closed' };
    }
    // opened late: a failure is answered like one of the transaction
    store ??= Store.open(engineDir);
    store.applyNow(changesOfPack(Buffer.from(message.buffer, 0, message.bytes)), message.meta);
    return { kind: 'applied', buffer: message.buffer };
  };

  port.on('message', (message: ToStoreThread) => {
    void answer(message)
      .catch((error): FromStoreThread => {
        const { id, facts } =
          error instanceof PitrError
            ? error
            : { id: 'store-full' as const, facts: { dir: engineDir, why: String(error?.message ?? error) } };
        return { kind: 'failed', id, facts };
      })
      .then((reply) => port.postMessage(reply, reply.kind === 'applied' ? [reply.buffer] : []));
  });
}
