/** The random steps of a seed: what they do, and the words in which a failure tells them. */
import { createSnapshot } from '../../snapshot/create.ts';
import { binNameCorpus, particleCorpus } from '../engine/particle-corpus.ts';
import type { Rng } from './rng.ts';
import { type Bytes, digestOf, type ModelKey, type ModelOp, partitionOf } from './rules.ts';
import { errorIdOf, type Node, type World } from './world.ts';

const NAMESPACES = ['test', 'bar'] as const;
const SETS = ['', 'users', 'a-set'] as const;
const MODES = { update: 8, replace: 4, create: 1, 'update-only': 1, 'replace-only': 1 } as const;
const BINS = ['n', 'name', ...binNameCorpus] as const;
/** Larger ones are left to the S9 test: here they would only take time. */
const SMALL = particleCorpus.filter((p) => p.bytes.length <= 300);
const LARGE = particleCorpus.filter((p) => p.bytes.length > 300 && p.bytes.length <= 80_000);

const integer = (n: number): Bytes => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(n));
  return { type: 1, bytes };
};

/** Few keys, so that histories are dense. The same user key in several namespaces has one digest in all of them. */
export const makeKeys = (rng: Rng, count: number): ModelKey[] =>
  Array.from({ length: count }, (_, i) => {
    const namespace = rng.pick(NAMESPACES);
    const set = rng.pick(SETS);
    const key: Bytes = rng.pick([
      integer(i),
      { type: 3, bytes: Buffer.from(`key ${i}`) },
      { type: 4, bytes: Buffer.from([i, 0, 255]) },
    ]);
    const digest = digestOf(set, key);
    const known = rng.chance(0.9);
    return {
      namespace,
      set,
      key: known ? key : undefined,
      digest: digest.toString('hex'),
      partition: partitionOf(digest),
    };
  });

/** How often each kind of step is taken, as weights. */
export const STEPS = {
  put: 40,
  delete: 6,
  touch: 5,
  batch: 12,
  burst: 6,
  read: 4,
  wrongOwner: 2,
  truncate: 3,
  mark: 3,
  seal: 8,
  archive: 8,
  compact: 3,
  snapshot: 3,
  clock: 10,
  clockBack: 2,
  restart: 1.5,
  crash: 1.5,
  agent: 1,
  handover: 2,
};

export type StepWeights = Readonly<Partial<typeof STEPS>>;

const NOTHING = Object.fromEntries(Object.keys(STEPS).map((name) => [name, 0])) as typeof STEPS;

export class Steps {
  readonly #log: string[];
  readonly #world: World;
  readonly #rng: Rng;
  readonly #keys: readonly ModelKey[];
  #n = 0;

  /** Tells each step into `log` before it is taken. */
  constructor(world: World, rng: Rng, keys: readonly ModelKey[], log: string[]) {
    this.#log = log;
    this.#world = world;
    this.#rng = rng;
    this.#keys = keys;
  }

  async step(weights: StepWeights = STEPS): Promise<void> {
    const rng = this.#rng;
    const world = this.#world;
    this.#n++;
    if (rng.chance(0.6)) world.clock.step(rng.int(0, 3));
    const kind = rng.weighted<keyof typeof STEPS>({ ...NOTHING, ...weights });
    const node = rng.pick(world.nodes);
    switch (kind) {
      case 'put':
      case 'delete':
      case 'touch': {
        const op = this.#op(kind, rng.pick(this.#keys));
        this.#say(kind, describe(op));
        return world.write(world.ownerOf(op.key), [op]);
      }
      case 'batch': {
        const ops = this.#ops(node, rng.int(2, 6));
        this.#say(`batch on ${node.stream}`, ops.map(describe).join('; '));
        return ops.length === 0 ? undefined : world.write(node, ops);
      }
      case 'burst': {
        const ops = this.#ops(node, rng.int(2, 5));
        this.#say(`burst on ${node.stream}`, ops.map(describe).join('; '));
        return world.burst(node, ops);
      }
      case 'read': {
        const key = rng.pick(this.#keys);
        this.#say('read', key.digest.slice(0, 8));
        return world.checkRead(key);
      }
      case 'wrongOwner': {
        const op = this.#op(rng.pick(['put', 'delete', 'touch']), rng.pick(this.#keys));
        const owner = world.ownerOf(op.key);
        const other = rng.pick(world.nodes.filter((n) => n !== owner));
        this.#say(`wrong owner ${other.stream}`, describe(op));
        return world.write(other, [op]);
      }
      case 'truncate': {
        const namespace = rng.pick(NAMESPACES);
        const set = rng.chance(0.7) ? rng.pick(SETS) : null;
        const luts = world.model.luts();
        const beforeMs = rng.chance(0.4) ? undefined : luts.length > 0 ? rng.pick(luts) : world.clock.nowMs();
        this.#say(`truncate on ${node.stream}`, `${namespace}/${set ?? '*'} before ${beforeMs ?? 'now'}`);
        return world.truncate(node, { namespace, set, beforeMs });
      }
      case 'mark':
        this.#say('mark', `m${this.#n} on ${node.stream}`);
        return world.mark(node, `m${this.#n}`);
      case 'seal':
        this.#say('seal', node.stream);
        return world.seal(node);
      case 'archive':
        return this.#archive(rng.chance(0.5) ? world.nodes : [node]);
      case 'compact':
        this.#say('compact', node.stream);
        await node.archiver.compact();
        return;
      case 'snapshot':
        return this.#snapshot();
      case 'clock': {
        const ms = rng.chance(0.06)
          ? rng.int(1, 5) * 3_600_000
          : rng.pick([rng.int(1, 50), rng.int(500, 4000), rng.int(5000, 90_000)]);
        this.#say('clock', `+${ms} ms`);
        return world.clock.step(ms);
      }
      case 'clockBack': {
        const ms = rng.chance(0.1) ? 3_600_000 : rng.pick([rng.int(1, 50), rng.int(500, 10_000)]);
        this.#say('clock', `-${ms} ms`);
        return world.clock.step(-ms);
      }
      case 'restart':
        this.#say('restart', node.stream);
        await world.restart(node);
        return world.checkScan(node);
      case 'crash':
        this.#say('crash', node.stream);
        return world.crash(node);
      case 'agent':
        this.#say('another agent for', node.stream);
        return world.replaceArchiver(node);
      case 'handover':
        return this.#handover(node);
      default:
        kind satisfies never;
    }
  }

  async #archive(nodes: readonly Node[]): Promise<void> {
    this.#say('seal and archive', nodes.map((n) => n.stream).join(' '));
    for (const node of nodes) {
      if (this.#rng.chance(0.8)) await this.#world.seal(node);
      await this.#world.archiveRound(node);
    }
  }

  async #snapshot(): Promise<void> {
    const { archive, model, startTs, timeline } = this.#world;
    const kind = this.#rng.pick(['full', 'incremental', 'synthetic', 'synthetic'] as const);
    const end = model.contiguousEnd();
    const ts = end >= startTs && this.#rng.chance(0.4) ? this.#rng.int(startTs, end) : undefined;
    this.#say('snapshot', `${kind} at ${ts ?? 'latest'}`);
    const id = await errorIdOf(
      createSnapshot(archive, { kind, timeline, ...(ts === undefined ? {} : { ts }) }),
    );
    const expected = end < startTs ? 'nothing-restorable' : undefined;
    if (id !== expected)
      throw new Error(`snapshot ended with ${id}, expected ${expected}; contiguous end ${end}`);
  }

  async #handover(from: Node): Promise<void> {
    const rng = this.#rng;
    const world = this.#world;
    const to = rng.pick(world.nodes.filter((n) => n !== from));
    const owned = world.model.partitionsOf(from.stream);
    if (owned.length === 0) return;
    const at = rng.int(0, owned.length - 1);
    let last = at;
    while (last + 1 < owned.length && owned[last + 1] === owned[last] + 1 && last - at < 700) last++;
    // now and then more than it owns
    const over = rng.chance(0.1) && owned[last] < 4095 ? 1 : 0;
    this.#say('hand over', `${owned[at]}-${owned[last] + over} from ${from.stream} to ${to.stream}`);
    await world.handover(from, to, owned[at], owned[last] + over);
  }

  #say(what: string, detail: string): void {
    this.#log.push(`${this.#n} @${this.#world.clock.nowMs()} ${what} ${detail}`);
  }

  #ops(node: Node, count: number): ModelOp[] {
    const keys = this.#keys.filter((k) => this.#world.model.ownerOf(k.partition) === node.stream);
    if (keys.length === 0) return [];
    return Array.from({ length: count }, () =>
      this.#op(this.#rng.weighted({ put: 6, delete: 2, touch: 1 }), this.#rng.pick(keys)),
    );
  }

  #op(kind: 'put' | 'delete' | 'touch', key: ModelKey): ModelOp {
    const rng = this.#rng;
    const generation = this.#generation(key);
    if (kind === 'delete') return { op: 'delete', key, generation };
    const ttl = rng.chance(0.5) ? undefined : rng.pick([1, 2, 5, 30, 3600, 'never', 'keep'] as const);
    if (kind === 'touch') return { op: 'touch', key, ttl, generation };
    const bins = new Map<string, Bytes | null>();
    for (let i = rng.int(1, 3); i > 0; i--) bins.set(rng.pick(BINS), this.#value());
    return { op: 'put', key, bins, mode: rng.weighted(MODES), ttl, generation, storeKey: rng.chance(0.85) };
  }

  #value(): Bytes | null {
    const rng = this.#rng;
    if (rng.chance(0.12)) return null;
    if (rng.chance(0.01)) return rng.pick(LARGE);
    return rng.chance(0.5) ? rng.pick(SMALL) : integer(rng.int(0, 1_000_000));
  }

  #generation(key: ModelKey): number | undefined {
    const rng = this.#rng;
    if (rng.chance(0.93)) return undefined;
    const now = this.#world.model.get(key, this.#world.clock.nowMs())?.generation ?? 0;
    return rng.chance(0.8) ? now : rng.int(0, 5);
  }
}

const describe = (op: ModelOp): string => {
  const checks = op.generation === undefined ? '' : ` generation ${op.generation}`;
  const name = `${op.key.namespace}/${op.key.digest.slice(0, 8)} (partition ${op.key.partition})`;
  if (op.op === 'delete') return `delete ${name}${checks}`;
  const ttl = op.ttl === undefined ? '' : ` ttl ${op.ttl}`;
  if (op.op === 'touch') return `touch ${name}${ttl}${checks}`;
  return `put ${op.mode} ${name} ${op.bins.size} bins${ttl}${checks}`;
};
