/** Bytes of output handed over at once; what is larger has a chunk of its own. */
export const CHUNK_BYTES = 1024 * 1024;

/** Buffers of chunks that have been taken: fresh ones cost the system a page fault for every 4 KiB. */
const spare: ArrayBuffer[] = [];
const SPARE_MAX = 8;

export const isReusable = (buffer: ArrayBuffer): boolean => buffer.byteLength === CHUNK_BYTES;

/** Takes back the buffer of a chunk that nobody needs any more; one that is of no use is given back to the system now. */
export const reuse = (buffer: ArrayBuffer): void => {
  if (isReusable(buffer) && spare.length < SPARE_MAX) spare.push(buffer);
  else buffer.transfer(0);
};

/** Output as chunks. Its public fields are for who writes into the chunk directly: bytes from `used` on, up to what was reserved. */
export class Chunks {
  bytes = bufferOf(CHUNK_BYTES);
  view = new DataView(this.bytes.buffer);
  used = 0;
  #full: Buffer[] = [];

  /** True when a chunk is full and waits to be taken. */
  get isDue(): boolean {
    return this.#full.length > 0;
  }

  /** Makes room for bytes that one chunk must hold together, and returns where they start: `used`. */
  reserve(bytes: number): number {
    if (this.used + bytes > this.bytes.length) {
      this.#close(Math.max(bytes, CHUNK_BYTES));
      if (bytes > this.bytes.length) this.#renew(bytes);
    }
    return this.used;
  }

  append(bytes: Uint8Array): void {
    // first: it may put another buffer in place
    const at = this.reserve(bytes.length);
    this.bytes.set(bytes, at);
    this.used += bytes.length;
  }

  /** Chunks that are full; with `rest` all there is. Each has a buffer of its own. */
  take(rest: boolean): Buffer[] {
    if (rest) this.#close(CHUNK_BYTES);
    return this.#full.splice(0);
  }

  #close(nextBytes: number): void {
    if (this.used === 0) return;
    this.#full.push(this.bytes.subarray(0, this.used));
    this.#renew(nextBytes);
  }

  #renew(bytes: number): void {
    this.bytes = bufferOf(bytes);
    this.view = new DataView(this.bytes.buffer);
    this.used = 0;
  }
}

const bufferOf = (bytes: number): Buffer => {
  const buffer = bytes === CHUNK_BYTES ? spare.pop() : undefined;
  return buffer ? Buffer.from(buffer) : Buffer.allocUnsafeSlow(bytes);
};
