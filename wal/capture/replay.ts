import type { LogEntry, LogEvent, LogVersion } from '../../engine/commit-log.ts';
import { ContentDigest, contentHash, seedOf } from '../../engine/content-digest.ts';
import { PitrError } from '../../engine/errors.ts';
import { sortKeyOf } from '../../engine/partition.ts';
import { ROW_FLAG } from './index-row.ts';
import type { Ledger } from './ledger.ts';

/** Rows that one transaction takes at start-up. */
const ROWS_MAX = 50_000;
const NO_BYTES = new Uint8Array(0);

/** Brings the index up to the log, entry by entry (C2). What a clock frame states must be what the index comes to. */
export class Replay {
  readonly #ledger: Ledger;
  #lsn: number;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
    this.#lsn = ledger.index.meta()?.appliedLsn ?? 0;
  }

  /** @throws store-corrupt */
  entry(entry: LogEntry): void {
    if (entry.kind === 'clock') {
      const { ts, digests } = entry.clock;
      if (ts <= this.#ledger.frontierTs) return;
      this.#ledger.settle(ts);
      const wrong = this.#ledger.digest.difference(ContentDigest.from(digests));
      if (wrong.length > 0)
        throw new PitrError('store-corrupt', {
          dir: this.#ledger.index.dir,
          why: `it differs from what the log states at ${new Date(ts).toISOString()} in shards ${wrong.join(', ')}`,
        });
      return;
    }
    if (entry.kind === 'version') {
      this.#lsn = entry.version.lsn;
      this.#version(entry.version);
    } else {
      this.#lsn = entry.event.lsn;
      this.#event(entry.event);
    }
    if (this.#ledger.changes >= ROWS_MAX) this.#ledger.store(this.#lsn);
  }

  finish(): void {
    this.#ledger.store(this.#lsn);
  }

  #event(event: LogEvent): void {
    if (event.kind === 'truncate') this.#ledger.truncate(event);
    if (event.kind !== 'ownership') return;
    // the walk sees the index only
    this.#ledger.store(this.#lsn - 1);
    if (event.change === 'release') this.#ledger.released(event);
    else this.#ledger.acquired(event);
  }

  #version(v: LogVersion): void {
    const { names } = this.#ledger;
    const namespace = names.namespace(v.namespace);
    const key = sortKeyOf(v.digest);
    if (!v.image) {
      this.#ledger.remove(namespace, key, v.ts);
      return;
    }
    this.#ledger.write(namespace, key, {
      generation: v.generation,
      flags: v.seen && v.seen.windowStartMs < v.seen.lutMs ? ROW_FLAG.base : 0,
      set: names.set(namespace, v.set),
      voidTimeS: v.voidTime,
      lutMs: v.seen?.lutMs ?? v.ts,
      ts: v.ts,
      hash: imageHash(v.namespace, v.set, key, v.image ?? NO_BYTES),
    });
  }
}

/** Content hash of a record; shared, overwritten by the next. */
export const imageHash = (namespace: string, set: string, key: Buffer, image: Uint8Array): Uint32Array =>
  contentHash(
    seedOf(namespace, set),
    key.readUInt32BE(0),
    key.readUInt32BE(4),
    key.readUInt32BE(8),
    key.readUInt32BE(12),
    key.readUInt32BE(16),
    image,
    0,
    image.length,
  );
