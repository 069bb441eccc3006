/** A server in a process of its own, since the official client blocks the one that it connects from. Argument: options as JSON. */

import { AerospikeServer } from '../../engine/aerospike/server/aerospike-server.ts';
import { Faults } from '../../engine/aerospike/server/faults.ts';
import { systemClock } from '../../engine/clock.ts';
import { Engine } from '../../wal/engine.ts';

interface Options {
  readonly dir: string;
  readonly nodes?: number;
  readonly namespaces?: readonly string[];
  readonly faults?: boolean;
  readonly stallMs?: number;
}

const { dir, faults, ...options } = JSON.parse(process.argv[2] ?? '{}') as Options;
const wrong = faults ? new Faults() : undefined;
const clock = wrong ? wrong.clockOf(systemClock) : systemClock;
const engine = await Engine.open({ dir, clock });
const server = await AerospikeServer.listen({
  engine,
  port: 0,
  ...options,
  clock,
  ...(wrong ? { faults: wrong } : {}),
  onError: (error) => console.error(error),
});
let isStopping = false;
const stop = async (): Promise<void> => {
  if (isStopping) return;
  isStopping = true;
  await server.close();
  await engine.close();
  if (process.connected) process.disconnect();
};
process.once('SIGTERM', () => void stop());
// whoever started it is gone
process.once('disconnect', () => void stop());
process.send?.({ addresses: server.addresses });
process.on('message', (what) => {
  if (what === 'memory') process.send?.({ rss: process.memoryUsage().rss });
});
