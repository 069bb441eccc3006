/**
 * Puts out the chunks of ranges in the order of the ranges, although several are made at once. A range whose turn has not
 * come waits, and with it the worker that makes it: a slow reader must not make the rest pile up in memory. The range whose
 * turn it is never waits, so this ends.
 */
export class InOrder {
  readonly #write: (chunk: Buffer) => Promise<void>;
  #current = 0;
  #turn = Promise.withResolvers<void>();

  constructor(write: (chunk: Buffer) => Promise<void>) {
    this.#write = write;
  }

  /** A chunk of a range; the chunks of one range come one after the other. */
  async chunk(chunk: Buffer, index: number): Promise<void> {
    await this.#turnOf(index);
    await this.#write(chunk);
  }

  /** A range has no more chunks. Ranges are numbered from 0 without holes, and each must be ended. */
  async end(index: number): Promise<void> {
    await this.#turnOf(index);
    this.#current++;
    const { resolve } = this.#turn;
    this.#turn = Promise.withResolvers<void>();
    resolve();
  }

  async #turnOf(index: number): Promise<void> {
    while (index !== this.#current) await this.#turn.promise;
  }
}
