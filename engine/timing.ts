import { setTimeout as sleep } from 'node:timers/promises';
import { type Clock, systemClock } from './clock.ts';

/** Time and chance for those who wait and try again: passed in, so that a test decides how long a second is. */
export interface Timing extends Clock {
  /** Resolves after `ms`. With a signal that fires before: rejects. */
  pause(ms: number, signal?: AbortSignal): Promise<void>;
  /** From 0 to below 1. */
  random(): number;
}

export const systemTiming: Timing = {
  ...systemClock,
  pause: (ms, signal) => sleep(ms, undefined, { signal }),
  random: Math.random,
};
