import { setTimeout as sleep } from 'node:timers/promises';
import { callDoor, isDoorClosed } from '../engine/door.ts';
import { isPitrError } from '../engine/errors.ts';
import { Engine } from '../wal/engine.ts';

/** Who did it. */
export type Via = 'writer' | 'command';

const TRIES_MAX = 5;
const PAUSE_MS = 50;
/** A seal waits for the disk, and for what the writer has in hand. */
const DOOR_TIMEOUT_MS = 60_000;

/**
 * Has the writer of a directory do something that may be done twice: the live one through its door, or, when nobody has the
 * directory, an engine opened for the moment. A door may close under a request; then it is asked again. An agent that adopts
 * a closed directory has no door: opening waits until it is done.
 * @throws engine-busy when a writer without a door holds the directory
 */
export const askWriter = async <T>(
  dir: string,
  verb: string,
  args: object,
  self: (engine: Engine) => Promise<T>,
): Promise<{ result: T; via: Via }> => {
  for (let tries = 1; ; tries++) {
    try {
      const result = (await callDoor(dir, verb, args, { timeoutMs: DOOR_TIMEOUT_MS })) as T;
      return { result, via: 'writer' };
    } catch (error) {
      if (isDoorClosed(error)) break;
      const isClosing = isPitrError(error, 'engine-closed');
      if (!isClosing && !isPitrError(error, 'io')) throw error;
      if (tries >= TRIES_MAX) {
        // it takes its time to close: opening waits for its lock
        if (isClosing) break;
        throw error;
      }
    }
    await sleep(PAUSE_MS);
  }
  const engine = await Engine.open({ dir, sealMs: 0, door: false });
  try {
    return { result: await self(engine), via: 'command' };
  } finally {
    await engine.close();
  }
};
