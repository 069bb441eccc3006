/** A process that archives one engine's log: adopts, ships, merges, deletes. */
import { isPitrError } from '../../engine/errors.ts';
import { Sweeper } from '../../snapshot/sweep.ts';
import { Archiver } from '../../wal/archiver.ts';
import type { Process } from './scheduler.ts';
import type { Node, World } from './world.ts';

export interface AgentOptions {
  /** It does not see the lock of the other agent, as one on another host: only the catalog keeps them apart. */
  readonly thief?: boolean;
}

/** Rounds until the world ends, or until it is fenced; then it takes the stream back. */
export const agentMain = async (
  world: World,
  node: Node,
  process: Process,
  options: AgentOptions = {},
): Promise<void> => {
  const rng = world.fork();
  const scope = options.thief
    ? (path: string): string => (path.endsWith('agent.lock') ? `${path} elsewhere` : path)
    : undefined;
  for (;;) {
    let archiver: Archiver | undefined;
    let { troubles } = process;
    try {
      archiver = await Archiver.open(node.dir, {
        clock: world.clockOf(process),
        store: world.bucket.clientOf(process),
        fanout: world.fanout,
        retireMs: world.retireMs,
        onEvent: (event) => {
          if (event.kind === 'merged') world.merges++;
        },
        ...world.machineOf(process, node.host, scope),
      });
    } catch (error) {
      world.tolerate(error, process, ['agent-busy', 'cas-conflict'], troubles);
    }
    const sweeper = archiver && new Sweeper(archiver, world.sweepRule, world.retireMs);
    let rounds = options.thief ? rng.int(1, 4) : Number.POSITIVE_INFINITY;
    while (archiver && !archiver.fenced && rounds-- > 0 && !(options.thief && world.stopping)) {
      troubles = process.troubles;
      try {
        await archiver.round();
        if (rng.chance(0.4)) world.swept += (await sweeper?.sweep())?.deleted.length ?? 0;
      } catch (error) {
        // what it was to merge may be gone when somebody else has taken the stream and does not know that it works
        const isSuperseded = world.watch.generationOf(node.stream) > archiver.head.generation;
        const gone = isSuperseded ? (['object-not-found'] as const) : [];
        world.tolerate(error, process, ['fenced', 'cas-conflict', 'engine-busy', ...gone], troubles);
        if (isPitrError(error, 'fenced')) {
          world.fenced++;
          break;
        }
      }
      await process.sleep(rng.int(50, 600));
    }
    await archiver?.close();
    // what it was writing then is an orphan
    if (archiver?.fenced) process.troubles++;
    if (options.thief) return;
    await process.sleep(rng.int(100, 2_000));
  }
};

/** One on another host, which works in the same directory and comes and goes: it takes the stream, and loses it again. */
export const standbyMain = async (world: World, node: Node, process: Process): Promise<void> => {
  const rng = world.fork();
  node.host.guests.add(process);
  while (!world.stopping) {
    await process.sleep(rng.int(300, 6_000));
    await agentMain(world, node, process, { thief: true });
  }
};
