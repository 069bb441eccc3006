import type { PitrError } from '../engine/errors.ts';
import { versionMisfit } from './extension.ts';

const TWO32 = 4294967296;
/** Bytes of a version in a commits frame before its names: flags, LSN, ts, generation, void time, digest. */
const FIXED_BYTES = 39;

/** Names of a version: a namespace and a set. */
export interface Scope {
  readonly namespace: string;
  readonly set: string;
}

/**
 * Versions of log files as columns, in log order: no object for a version, images stay where they were read. Row `i` is
 * described by element `i` of every column.
 */
export class LogColumns {
  rows = 0;
  /** Sort keys of 20 bytes (engine/partition.ts), one after the other. */
  keys = Buffer.allocUnsafeSlow(0);
  /** ms. */
  ts = new Float64Array(0);
  lsn = new Float64Array(0);
  voidTime = new Uint32Array(0);
  /** Index into {@link scopes}. */
  scope = new Uint32Array(0);
  /** Where extension and image are in their file. */
  imageStart = new Uint32Array(0);
  imageEnd = new Uint32Array(0);
  /** Index into {@link files}. */
  file = new Uint32Array(0);
  generation = new Uint16Array(0);
  /** The log's bits, which mean what those of a block mean (`FLAG`). */
  flags = new Uint8Array(0);
  readonly scopes: Scope[] = [];
  readonly files: Buffer[] = [];
  readonly #scopeIds = new Map<string, number>();
  /** Names of the last version as they stand in the file: those of the next are mostly the same. */
  #names: Uint8Array = new Uint8Array(0);
  #scope = -1;

  /** Images of the frames that follow are in `file`. */
  beginFile(file: Buffer): void {
    this.files.push(file);
  }

  /**
   * Appends the versions of a commits frame, whose LSNs must go on from `lsnNext`; returns the LSN after them. `payload` is a view
   * of the file begun last.
   */
  append(payload: Buffer, lsnNext: number, bad: (why: string) => PitrError): number {
    const file = this.files.length - 1;
    const base = payload.byteOffset - this.files[file].byteOffset;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const bytes = payload.length;
    let at = 0;
    let lsnDue = lsnNext;
    const past = (): PitrError => bad('a version reaches past its frame');
    while (at < bytes) {
      if (at + FIXED_BYTES + 2 > bytes) throw past();
      const lsn = view.getUint32(at + 1, true) + view.getUint16(at + 5, true) * TWO32;
      if (lsn !== lsnDue) throw bad(`LSN ${lsn} where ${lsnDue} is due`);
      lsnDue++;
      const namesAt = at + FIXED_BYTES;
      const setAt = namesAt + 1 + payload[namesAt];
      if (setAt >= bytes) throw past();
      const imageAt = setAt + 1 + payload[setAt] + 4;
      if (imageAt > bytes) throw past();
      const imageEnd = imageAt + view.getUint32(imageAt - 4, true);
      if (imageEnd > bytes) throw past();
      const ts = view.getUint32(at + 7, true) + view.getUint16(at + 11, true) * TWO32;
      const why = versionMisfit(payload[at], payload, imageAt, imageEnd - imageAt, ts);
      if (why !== undefined) throw bad(why);
      const row = this.#reserve();
      this.flags[row] = payload[at];
      this.lsn[row] = lsn;
      this.ts[row] = ts;
      this.generation[row] = view.getUint16(at + 13, true);
      this.voidTime[row] = view.getUint32(at + 15, true);
      this.#sortKey(payload, at + 19, row * 20);
      this.scope[row] = this.#scopeAt(payload, namesAt, setAt, imageAt - 4);
      this.file[row] = file;
      this.imageStart[row] = base + imageAt;
      this.imageEnd[row] = base + imageEnd;
      at = imageEnd;
    }
    return lsnDue;
  }

  /** As sortKeyOf: the 12 partition bits to the front. */
  #sortKey(from: Buffer, at: number, to: number): void {
    const { keys } = this;
    const b0 = from[at];
    const b1 = from[at + 1];
    keys[to] = ((b1 & 0x0f) << 4) | (b0 >> 4);
    keys[to + 1] = ((b0 & 0x0f) << 4) | (b1 >> 4);
    for (let i = 2; i < 20; i++) keys[to + i] = from[at + i];
  }

  #scopeAt(bytes: Buffer, start: number, setAt: number, end: number): number {
    const last = this.#names;
    let same = last.length === end - start;
    for (let i = 0; same && i < last.length; i++) same = last[i] === bytes[start + i];
    if (same && this.#scope >= 0) return this.#scope;
    this.#names = Uint8Array.from(bytes.subarray(start, end));
    const namespace = bytes.toString('utf8', start + 1, setAt);
    const set = bytes.toString('utf8', setAt + 1, end);
    const name = `${namespace}\0${set}`;
    let id = this.#scopeIds.get(name);
    if (id === undefined) {
      id = this.scopes.push({ namespace, set }) - 1;
      this.#scopeIds.set(name, id);
    }
    this.#scope = id;
    return id;
  }

  #reserve(): number {
    if (this.rows === this.ts.length) {
      const n = Math.max(1024, this.rows * 2);
      const keys = Buffer.allocUnsafeSlow(n * 20);
      this.keys.copy(keys);
      this.keys = keys;
      const grown = <T extends Float64Array | Uint32Array | Uint16Array | Uint8Array>(made: T, old: T): T => {
        made.set(old);
        return made;
      };
      this.ts = grown(new Float64Array(n), this.ts);
      this.lsn = grown(new Float64Array(n), this.lsn);
      this.voidTime = grown(new Uint32Array(n), this.voidTime);
      this.scope = grown(new Uint32Array(n), this.scope);
      this.imageStart = grown(new Uint32Array(n), this.imageStart);
      this.imageEnd = grown(new Uint32Array(n), this.imageEnd);
      this.file = grown(new Uint32Array(n), this.file);
      this.generation = grown(new Uint16Array(n), this.generation);
      this.flags = grown(new Uint8Array(n), this.flags);
    }
    return this.rows++;
  }
}
