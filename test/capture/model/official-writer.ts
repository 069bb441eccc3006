/** The same work as by hand, through the official client: what it sends is its own, what came of it is read by hand. */
import type { Client, Package } from '../../aerospike/official-client.ts';
import type { Rng } from '../../model/rng.ts';
import type { OwnKey, Writer } from './writer.ts';

/** One command through the client, which may fail. */
export const officialStep = async (
  aerospike: Package,
  client: Client,
  writer: Writer,
  rng: Rng,
  onDone: () => void,
): Promise<void> => {
  const own = rng.pick(writer.keys);
  await writer.change(own, () => commandOf(aerospike, client, own, rng).then(onDone));
};

const commandOf = (
  { Key, WritePolicy, OperatePolicy, operations, policy }: Package,
  client: Client,
  { truth, key, sendsKey }: OwnKey,
  rng: Rng,
): Promise<unknown> => {
  const name = new Key(truth.namespace, truth.set, key);
  const isSent = sendsKey ? policy.key.SEND : policy.key.DIGEST;
  switch (rng.weighted({ put: 5, operate: 4, remove: 2 })) {
    case 'put':
      return client.put(
        name,
        { a: rng.int(0, 1_000_000), b: 'text'.repeat(rng.int(1, 9)), c: [rng.int(0, 127), rng.int(0, 127)] },
        rng.chance(0.2) ? { ttl: rng.int(2, 1000) } : {},
        new WritePolicy({ key: isSent, totalTimeout: 5000 }),
      );
    case 'operate':
      return client.operate(
        name,
        [operations.write('b', Buffer.from([rng.int(0, 255), 0])), operations.write('d', rng.chance(0.5))],
        {},
        new OperatePolicy({ key: isSent, totalTimeout: 5000 }),
      );
    case 'remove':
      return client.remove(name);
  }
};
