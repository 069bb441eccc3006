/** Time as the client needs it: passed in, so that a test or a simulation owns it. */
export interface Timing {
  /** Never goes back: timeouts must not fire because somebody set the clock. Its zero means nothing. */
  nowMs(): number;
  /** Calls `run` once after `ms`; returns what takes that back. */
  after(ms: number, run: () => void): () => void;
}

export const systemTiming: Timing = {
  nowMs: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

/** Waits. Ends early, without error, when `signal` is aborted: who waits looks at what it was waiting for anyway. */
export const sleep = (timing: Timing, ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const wake = (): void => {
      cancel();
      signal?.removeEventListener('abort', wake);
      resolve();
    };
    const cancel = timing.after(ms, wake);
    signal?.addEventListener('abort', wake);
  });
