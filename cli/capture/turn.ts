/** What the poll that begins now is to do beside polling. */
export interface Begun {
  readonly marks: readonly string[];
  readonly waiting: readonly PromiseWithResolvers<void>[];
}

/**
 * Who waits for a poll, and which marks it is to state: somebody who asks is answered by a poll that began after he had asked, and asking
 * ends the pause before it.
 */
export class Turn {
  #marks: string[] = [];
  #waiting: PromiseWithResolvers<void>[] = [];
  #wake: (() => void) | undefined;
  #over: Error | undefined;

  /** Resolves when a poll that begins after this call has stated its frontier. @throws what {@link over} was given */
  next(): Promise<void> {
    if (this.#over) return Promise.reject(this.#over);
    const one = Promise.withResolvers<void>();
    this.#waiting.push(one);
    this.#wake?.();
    return one.promise;
  }

  /** A mark for the next poll. */
  mark(name: string): void {
    this.#marks.push(name);
  }

  begin(): Begun {
    const begun = { marks: this.#marks, waiting: this.#waiting };
    this.#marks = [];
    this.#waiting = [];
    return begun;
  }

  end({ waiting }: Begun): void {
    for (const { resolve } of waiting) resolve();
  }

  /** The poll has stated nothing, or has failed: the next one is to. */
  putBack({ marks, waiting }: Begun): void {
    this.#marks.unshift(...marks);
    this.#waiting.unshift(...waiting);
    if (this.#over) this.over(this.#over);
  }

  over(error: Error): void {
    this.#over = error;
    for (const { reject } of this.#waiting) reject(error);
    this.#waiting = [];
    this.#wake?.();
  }

  /** Waits, unless somebody waits for a poll. */
  wait(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#waiting.length > 0 || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener('abort', done);
      this.#wake = done;
    });
  }
}
