/** Bytes that mean a value but are not its canonical form: as other clients, or enemies, write them. */
import fc from 'fast-check';
import { key, type Packable, pack, value } from './packed.ts';

type Random = () => number;

const bigEndian = (n: bigint, bytes: number): Buffer => {
  const b = Buffer.alloc(bytes);
  let rest = BigInt.asUintN(bytes * 8, n);
  for (let i = bytes - 1; i >= 0; i--, rest >>= 8n) b[i] = Number(rest & 255n);
  return b;
};

const pick = <T>(random: Random, ...choices: readonly T[]): T => choices[random() % choices.length]!;

const looseInt = (n: bigint, random: Random): Buffer => {
  const forms = [pack(n)];
  for (const [i, width] of [1, 2, 4, 8].entries()) {
    if (n >= 0n && n < 2n ** BigInt(8 * width))
      forms.push(Buffer.concat([Buffer.of(0xcc + i), bigEndian(n, width)]));
    const half = 2n ** BigInt(8 * width - 1);
    if (n >= -half && n < half) forms.push(Buffer.concat([Buffer.of(0xd0 + i), bigEndian(n, width)]));
  }
  return pick(random, ...forms);
};

const looseString = (packed: Buffer, random: Random): Buffer => {
  const payload = packed.subarray(packed[0] === 0xd9 ? 2 : 1);
  const n = payload.length;
  const heads = [
    [0xd9, n],
    [0xda, 0, n],
    [0xdb, 0, 0, 0, n],
    [0xc4, n],
    [0xc5, 0, n],
    [0xc6, 0, 0, 0, n],
  ];
  return random() % 3 === 0 ? Buffer.concat([Buffer.from(pick(random, ...heads)), payload]) : packed;
};

const looseMarker = (flags: number, random: Random): Buffer => {
  const usual = Buffer.of(0xc7, 0, flags);
  return random() % 3 > 0
    ? usual
    : pick(
        random,
        Buffer.of(0xc7, 1, flags, 9),
        Buffer.of(0xd5, flags, 1, 2),
        Buffer.of(0xc8, 0, 0, flags),
        Buffer.of(0xd4, flags, 1),
      );
};

const looseCount = (fix: number, wide: number, n: number, random: Random): Buffer =>
  random() % 3 > 0
    ? Buffer.of(fix + n)
    : pick(random, Buffer.of(wide, 0, n), Buffer.of(wide + 1, 0, 0, 0, n));

const loose = (v: Packable, random: Random): Buffer => {
  if (typeof v === 'number' || typeof v === 'bigint') return looseInt(BigInt(v), random);
  if (typeof v !== 'object' || v === null || 'f64' in v || 'raw' in v) {
    const packed = pack(v);
    const isString = (packed[0]! >= 0xa0 && packed[0]! < 0xc0) || packed[0] === 0xd9;
    return isString ? looseString(packed, random) : packed;
  }
  const isMap = 'map' in v;
  const flags = random() % 4 === 0 ? pick(random, 0, 1, 2, 3, 4, 8) : (v.flags ?? 0);
  const marker = flags !== 0 || random() % 9 === 0 ? [looseMarker(flags, random)] : [];
  if (!isMap)
    return Buffer.concat([
      looseCount(0x90, 0xdc, v.list.length + marker.length, random),
      ...marker,
      ...v.list.map((element) => loose(element, random)),
    ]);
  const pairs = random() % 2 === 0 ? v.map : v.map.toReversed();
  return Buffer.concat([
    looseCount(0x80, 0xde, v.map.length + marker.length, random),
    ...marker,
    ...marker.map(() => Buffer.of(random() % 5 === 0 ? 5 : 0xc0)),
    ...pairs.flatMap(([k, e]) => [loose(k, random), loose(e, random)]),
  ]);
};

const xorshift = (seed: number): Random => {
  let x = seed >>> 0 || 1;
  return () => {
    x ^= x << 13;
    x >>>= 0;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    return x;
  };
};

export interface Raw {
  /** Particle type: 19 map, 20 list. */
  readonly type: number;
  readonly bytes: Buffer;
}

const INTERESTING = [0xc7, 0xd4, 0xff, 0xa0, 0x91, 0x81, 0xc1, 0xc8, 0x80];

const container: fc.Arbitrary<Packable> = fc.oneof(
  fc.array(value, { maxLength: 6 }).map((list): Packable => ({ list })),
  fc.array(fc.tuple(key, value), { maxLength: 6 }).map((map): Packable => ({ map })),
);

/** A list or map in some form; `mutated`: with bytes changed. */
export const rawParticle = (mutated: boolean): fc.Arbitrary<Raw> =>
  fc.tuple(container, fc.integer()).map(([v, seed]) => {
    const random = xorshift(seed);
    const bytes = loose(v, random);
    for (let i = mutated ? 1 + (random() % 3) : 0; i > 0; i--) {
      const at = random() % bytes.length;
      bytes[at] = random() % 2 === 0 ? pick(random, ...INTERESTING) : bytes[at]! ^ (1 << (random() % 8));
    }
    return { type: 'map' in (v as object) ? 19 : 20, bytes };
  });
