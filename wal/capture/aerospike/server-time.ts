import { WireTtl } from '../../../engine/aerospike/bits.ts';
import type { AerospikeClient } from '../../../engine/aerospike/client/client.ts';
import { operateCommand, type WireKey } from '../../../engine/aerospike/client/command.ts';
import { lutMsAt, type WireOp } from '../../../engine/aerospike/client/record.ts';
import type { Timing } from '../../../engine/aerospike/client/timing.ts';
import { lastUpdate, readOp, sinceUpdate } from '../../../engine/aerospike/expression/build.ts';
import { OpId } from '../../../engine/aerospike/operation.ts';
import { PitrError } from '../../../engine/errors.ts';
import { ParticleType } from '../../../engine/particle.ts';

/** What a node's clock showed. */
export interface NodeTime {
  /** At most its clock when it answered, ms since 1970. */
  readonly ms: number;
  /** By how much at most {@link ms} is less than that. */
  readonly uncertainMs: number;
  /** Our clock (a client's `Timing`) before the question. */
  readonly askedAtMs: number;
}

/** A second and what rounding takes. */
const SECOND_MS = 1000;

/** The nodes' clocks as they were read before a poll (P1), and what they can be now. */
export class ServerTime {
  readonly nodes: ReadonlyMap<string, NodeTime>;
  /** S: the clock of no node that is asked for records was before this when it was read. */
  readonly ms: number;
  /** S is in ms. */
  readonly isExact: boolean;
  readonly #timing: Timing;

  /** `asked`: those that have what the capture is about; others hold nothing up. */
  constructor(nodes: ReadonlyMap<string, NodeTime>, asked: ReadonlySet<string>, timing: Timing) {
    this.nodes = nodes;
    this.#timing = timing;
    const times = [...nodes].filter(([id]) => asked.size === 0 || asked.has(id)).map(([, time]) => time);
    this.ms = Math.min(...times.map(({ ms }) => ms));
    this.isExact = times.every(({ uncertainMs }) => uncertainMs <= 1);
  }

  /** No node's clock has shown less than this since `before` was read, also if it was set back in between. Of the same process. */
  since(before: ServerTime): number {
    const askedAtMs = Math.min(...[...before.nodes.values()].map((time) => time.askedAtMs));
    return this.ms - Math.ceil(this.#timing.nowMs() - askedAtMs);
  }

  /** No node's clock was after this at `atMs` of ours; default now. */
  latestMs(atMs = this.#timing.nowMs()): number {
    let latest = 0;
    for (const { ms, uncertainMs, askedAtMs } of this.nodes.values())
      latest = Math.max(latest, ms + uncertainMs + Math.ceil(atMs - askedAtMs));
    return latest;
  }
}

const read = (bytes: Uint8Array): WireOp => ({ op: OpId.expRead, name: '', type: ParticleType.blob, bytes });
const NOW_OPS = [read(readOp(sinceUpdate())), read(readOp(lastUpdate()))];

/**
 * The clock of a node: of a live record that it is master of (`anchor`) in ms, else `floorMs`, that of its `current_time`, which was
 * asked for at `floorAskedAtMs`. Undefined anchor, or one that is gone: the latter.
 * @throws aerospike-…
 */
export const readNodeTime = async (
  client: AerospikeClient,
  timing: Timing,
  anchor: WireKey | undefined,
  floor: { readonly ms: number; readonly askedAtMs: number },
): Promise<NodeTime> => {
  const coarse = { ms: floor.ms, uncertainMs: SECOND_MS, askedAtMs: floor.askedAtMs };
  if (!anchor) return coarse;
  const askedAtMs = timing.nowMs();
  // it must not extend the record's life (P9)
  const command = { ...operateCommand(anchor, NOW_OPS), recordTtl: WireTtl.never };
  const results = await client.runAll([command]);
  if (results.code(0) < 0) throw results.failure(0) ?? new PitrError('internal', { what: 'no answer' });
  const [since, lut] = results.answers(0);
  if (results.code(0) !== 0 || since?.bytes.length !== 8 || lut?.bytes.length !== 8) return coarse;
  const sinceMs = Number(Buffer.from(since.bytes).readBigInt64BE());
  const ms = lutMsAt(Buffer.from(lut.bytes), 0) + sinceMs;
  // 0: the clock may have been set back, and is before the record's last update
  const latest = floor.ms + SECOND_MS + Math.ceil(timing.nowMs() - floor.askedAtMs);
  return sinceMs > 0 && ms >= floor.ms && ms <= latest ? { ms, uncertainMs: 1, askedAtMs } : coarse;
};
