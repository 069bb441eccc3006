/** Many who write, and now and then one that must not be disturbed: it waits until all have come to the end of what they do. */
export class Gate {
  #busy = 0;
  #closed: Promise<void> | undefined;
  #drained: (() => void) | undefined;

  async enter<T>(work: () => Promise<T>): Promise<T> {
    while (this.#closed) await this.#closed;
    this.#busy++;
    try {
      return await work();
    } finally {
      if (--this.#busy === 0) this.#drained?.();
    }
  }

  async alone<T>(work: () => Promise<T>): Promise<T> {
    while (this.#closed) await this.#closed;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#closed = promise;
    try {
      if (this.#busy > 0)
        await new Promise<void>((drained) => {
          this.#drained = drained;
        });
      return await work();
    } finally {
      this.#closed = undefined;
      resolve();
    }
  }
}
