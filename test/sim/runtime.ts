/**
 * Timers, the time of day and random bytes of the runtime, owned by the simulation. They are replaced where the runtime keeps
 * them and not passed in, so that a call which somebody writes tomorrow is owned too, without knowing. Outside a simulated
 * process everything is as it was: whose call it is follows the asynchronous context.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import timersPromises from 'node:timers/promises';

/** What a simulated process gets in place of the runtime's own. */
export interface Runtime {
  timer(run: () => void, ms: number, repeat: boolean): object;
  /** False: it is no timer of this process. */
  clearTimer(timer: unknown): boolean;
  nowMs(): number;
  monotonicMs(): number;
  randomBytes(bytes: number): Buffer;
}

const current = new AsyncLocalStorage<Runtime>();
const real = {
  setTimeout: globalThis.setTimeout,
  setInterval: globalThis.setInterval,
  setImmediate: globalThis.setImmediate,
  clearTimeout: globalThis.clearTimeout,
  sleep: timersPromises.setTimeout,
  dateNow: Date.now,
  performanceNow: performance.now.bind(performance),
  randomBytes: crypto.randomBytes,
  randomUUID: crypto.randomUUID,
};

/** Runs `work`, and everything that it sets in motion, with the runtime of a simulated process. */
export const runIn = <T>(runtime: Runtime, work: () => T): T => current.run(runtime, work);

/** Resolves when nothing is left to do but what waits for the simulation (or for the world outside, which it must not). */
export const quiescent = (): Promise<void> => new Promise((resolve) => real.setImmediate(resolve));

type Run = (...args: unknown[]) => void;

const uuidOf = (b: Buffer): string => {
  const hex = b.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
};

const clear = (timer: unknown): void => {
  if (!current.getStore()?.clearTimer(timer)) real.clearTimeout(timer as NodeJS.Timeout);
};

let owned = false;

/** Once for each process of the test runner. */
export const ownRuntime = (): void => {
  if (owned) return;
  owned = true;
  const timer =
    (otherwise: unknown, repeat: boolean) =>
    (run: Run, ms = 0, ...args: unknown[]) =>
      current.getStore()?.timer(() => run(...args), ms, repeat) ??
      (otherwise as (run: Run, ms: number, ...args: unknown[]) => unknown)(run, ms, ...args);
  const immediate = (run: Run, ...args: unknown[]) =>
    current.getStore()?.timer(() => run(...args), 0, false) ?? real.setImmediate(run, ...args);
  Object.assign(globalThis, {
    setTimeout: timer(real.setTimeout, false),
    setInterval: timer(real.setInterval, true),
    setImmediate: immediate,
    clearTimeout: clear,
    clearInterval: clear,
    clearImmediate: clear,
  });
  Date.now = () => current.getStore()?.nowMs() ?? real.dateNow();
  performance.now = () => current.getStore()?.monotonicMs() ?? real.performanceNow();
  Object.assign(crypto, {
    randomBytes: (bytes: number) => current.getStore()?.randomBytes(bytes) ?? real.randomBytes(bytes),
    randomUUID: () => {
      const runtime = current.getStore();
      return runtime ? uuidOf(runtime.randomBytes(16)) : real.randomUUID();
    },
  });
  Object.assign(timersPromises, {
    setTimeout: (ms: number, value: unknown) => {
      const runtime = current.getStore();
      return runtime
        ? new Promise((resolve) => runtime.timer(() => resolve(value), ms, false))
        : real.sleep(ms, value);
    },
  });
  syncBuiltinESMExports();
};
