/** Random work on records of its own, and what came of it: after each command the record's state and LUT are known exactly. */
import {
  CREATE_OR_REPLACE,
  DELETE,
  digestOf,
  expRead,
  field,
  message,
  NEVER_EXPIRE,
  op,
  READ,
  type Reply,
  read,
  touch,
  u64,
  utf8,
  WRITE,
} from '../../aerospike/wire-bytes.ts';
import type { WireConnection } from '../../aerospike/wire-connection.ts';
import type { Rng } from '../../model/rng.ts';
import type { Source } from './source.ts';
import type { Content, RecordTruth, Truth } from './truth.ts';

const BINS = ['a', 'b', 'c', 'd'];
const LOOK = [...BINS.map(read), expRead('l', '91 42')];
/** Seconds from 1970 to 2010. */
const EPOCH_S = 1_262_304_000;
const NOT_FOUND = 2;

export interface OwnKey {
  readonly truth: RecordTruth;
  readonly key: number;
  /** Its writes send the key, so it is stored. */
  readonly sendsKey: boolean;
}

export class Writer {
  readonly keys: readonly OwnKey[];
  readonly #source: Source;
  readonly #wire: WireConnection;
  readonly #rng: Rng;
  readonly #isTruncated: (record: RecordTruth) => boolean;
  readonly #next: () => number;
  readonly #count: (what: 'writes' | 'deletes') => void;

  constructor(parts: {
    readonly source: Source;
    readonly wire: WireConnection;
    readonly rng: Rng;
    readonly keys: readonly OwnKey[];
    readonly isTruncated: (record: RecordTruth) => boolean;
    /** {@link Truth.next} */
    readonly next: () => number;
    readonly count: (what: 'writes' | 'deletes') => void;
  }) {
    this.keys = parts.keys;
    this.#source = parts.source;
    this.#wire = parts.wire;
    this.#rng = parts.rng;
    this.#isTruncated = parts.isTruncated;
    this.#next = parts.next;
    this.#count = parts.count;
  }

  /** One random command, done or not, and what is there after it. */
  async step(): Promise<void> {
    const rng = this.#rng;
    // a few are written again and again
    const own = rng.chance(0.3) ? this.keys[rng.int(0, 3)] : rng.pick(this.keys);
    const kind = rng.weighted({ put: 50, remove: 14, replace: 8, touch: 6, dropBin: 5, fleeting: 5, big: 2 });
    const ops = this.#opsOf(kind);
    const isRemoval = kind === 'remove';
    await this.#tell(own, async () =>
      this.#wire.call(
        message({
          info1: isRemoval ? 0 : READ,
          info2: isRemoval ? WRITE | DELETE : WRITE,
          info3: kind === 'replace' ? CREATE_OR_REPLACE : 0,
          ttl: kind === 'fleeting' ? rng.int(1, 3) : rng.chance(0.1) ? 1000 : NEVER_EXPIRE,
          fields: fieldsOf(own, !isRemoval),
          ops: isRemoval ? [] : [...ops, ...LOOK],
        }),
      ),
    );
  }

  /** Whatever `work` does to the record, which may fail: it is looked at afterwards. */
  async change(own: OwnKey, work: () => Promise<unknown>): Promise<void> {
    await this.#tell(own, async () => {
      await work();
      return undefined;
    });
  }

  /** Looks at every record: what is not as it was became so since `fromMs`. */
  async lookAtAll(fromMs: number): Promise<void> {
    for (const own of this.keys) await this.#look(own, fromMs, true);
  }

  async #tell(own: OwnKey, work: () => Promise<Reply | undefined>): Promise<void> {
    const fromMs = await this.#source.nowMs();
    const reply = await work().catch(() => undefined);
    if (reply?.code === 0 && reply.generation > 0 && reply.ops.length > 0)
      this.#note(own, contentOf(own, reply), fromMs, fromMs, false);
    else await this.#look(own, fromMs, false);
  }

  async #look(own: OwnKey, fromMs: number, isBack: boolean): Promise<void> {
    const reply = await this.#source.again(async () => {
      const said = await this.#wire.call(message({ info1: READ, fields: fieldsOf(own, false), ops: LOOK }));
      if (said.code !== 0 && said.code !== NOT_FOUND) throw new Error(`code ${said.code}`);
      return said;
    });
    const content = reply.code === 0 ? contentOf(own, reply) : undefined;
    this.#note(own, content, fromMs, await this.#source.nowMs(), isBack);
  }

  #note(
    { truth }: OwnKey,
    content: Content | undefined,
    fromMs: number,
    toMs: number,
    isBack: boolean,
  ): void {
    const { last } = truth;
    if (!content) {
      if (!last) return;
      truth.changes.push({ at: this.#next(), fromMs, toMs });
      this.#count('deletes');
      return;
    }
    if (last && isSameContent(last, content) && !(isBack && this.#isTruncated(truth))) return;
    // what a restart brought back was not written when its LUT says so
    const when =
      isBack && content.lutMs < fromMs ? { fromMs, toMs } : { fromMs: content.lutMs, toMs: content.lutMs };
    truth.changes.push({ at: this.#next(), ...when, content });
    this.#count('writes');
  }

  #opsOf(kind: string): Buffer[] {
    const rng = this.#rng;
    if (kind === 'touch') return [touch()];
    if (kind === 'dropBin') return [op(2, rng.pick(BINS))];
    if (kind === 'big') return [op(2, 'd', 4, Buffer.alloc(rng.int(2_000, 60_000), rng.int(0, 255)))];
    const names = rng.chance(0.5) ? [rng.pick(BINS)] : ['a', 'c'];
    return names.map((name) => op(2, name, ...this.#value()));
  }

  #value(): [number, Buffer] {
    const rng = this.#rng;
    const bytes = (n: number): Buffer => Buffer.from(Array.from({ length: n }, () => rng.int(0, 255)));
    switch (rng.int(0, 4)) {
      case 0:
        return [1, u64(rng.int(-1000, 1000))];
      case 1:
        return [3, Buffer.from('wert'.repeat(rng.int(1, 20)))];
      case 2:
        return [4, bytes(rng.int(1, 60))];
      case 3:
        return [
          20,
          Buffer.concat([
            Uint8Array.of(0x90 | 3),
            Buffer.from(Array.from({ length: 3 }, () => rng.int(0, 127))),
          ]),
        ];
      default:
        return [17, Uint8Array.of(rng.int(0, 1)) as Buffer];
    }
  }
}

const fieldsOf = ({ truth, key, sendsKey }: OwnKey, isWrite: boolean): Buffer[] => [
  field(0, utf8(truth.namespace)),
  field(1, utf8(truth.set)),
  field(4, truth.digest),
  ...(isWrite && sendsKey ? [field(2, Buffer.concat([Uint8Array.of(1), u64(key)]))] : []),
];

const contentOf = ({ key, sendsKey }: OwnKey, reply: Reply): Content => {
  const values = reply.ops.filter((text) => text.includes(':')).map((text) => text.replace(/^\d+ /, ''));
  const lut = values.find((text) => text.startsWith('l '))!;
  return {
    generation: reply.generation,
    lutMs: Number(BigInt(`0x${lut.split(':')[1]}`) / 1_000_000n),
    voidTimeS: reply.voidTime === 0 ? 0 : reply.voidTime + EPOCH_S,
    key: sendsKey ? key : undefined,
    bins: values.filter((text) => text !== lut && !text.endsWith(' 0:')).sort(),
  };
};

const isSameContent = (a: Content, b: Content): boolean =>
  a.generation === b.generation &&
  a.lutMs === b.lutMs &&
  a.voidTimeS === b.voidTimeS &&
  a.bins.join() === b.bins.join();

/** `count` keys from `first` on, in these sets. */
export const ownKeys = (
  truth: Truth,
  places: readonly (readonly [namespace: string, set: string])[],
  first: number,
  count: number,
): OwnKey[] =>
  Array.from({ length: count }, (_, i) => {
    const key = first + i;
    const [namespace, set] = places[i % places.length];
    const record = truth.record(namespace, set, digestOf(set, 1, u64(key)));
    return { truth: record, key, sendsKey: key % 3 === 0 };
  });
