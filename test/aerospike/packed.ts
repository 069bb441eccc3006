/**
 * Test values and their bytes in the msgpack dialect, written by hand from the reference: nothing is shared with the engine's
 * encoders. What is generated are small values from small pools, so that equal ones meet.
 */
import fc from 'fast-check';

export type Packable =
  | null
  | boolean
  | number
  | bigint
  | string
  | { readonly f64: number }
  | { readonly raw: Uint8Array }
  | { readonly list: readonly Packable[]; readonly flags?: number }
  | { readonly map: readonly (readonly [Packable, Packable])[]; readonly flags?: number };

export const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

/** Bytes of a particle type inside a list or map. */
export const typed = (type: number, payload: Uint8Array): Packable => {
  const n = payload.length + 1;
  const head = n < 32 ? Buffer.of(0xa0 + n) : n < 256 ? Buffer.of(0xd9, n) : Buffer.of(0xda, n >> 8, n & 255);
  return { raw: Buffer.concat([head, Buffer.of(type), payload]) };
};

export const blob = (...bytes: number[]): Packable => typed(4, Buffer.from(bytes));
export const geo = (text: string): Packable => typed(23, Buffer.from(text));
export const WILDCARD: Packable = { raw: hex('d4 ff 00') };
export const INFINITY: Packable = { raw: hex('d4 ff 01') };

const integer = (n: bigint): Buffer => {
  const out = Buffer.alloc(9);
  if (n >= 0n) {
    if (n < 128n) return Buffer.of(Number(n));
    if (n < 256n) return Buffer.of(0xcc, Number(n));
    if (n < 65536n) return Buffer.of(0xcd, Number(n >> 8n), Number(n & 255n));
    if (n < 2n ** 32n) {
      out[0] = 0xce;
      out.writeUInt32BE(Number(n), 1);
      return out.subarray(0, 5);
    }
    out[0] = 0xcf;
    out.writeBigUInt64BE(n, 1);
    return out;
  }
  if (n >= -32n) return Buffer.of(Number(256n + n));
  if (n >= -128n) return Buffer.of(0xd0, Number(256n + n));
  if (n >= -32768n) {
    out[0] = 0xd1;
    out.writeInt16BE(Number(n), 1);
    return out.subarray(0, 3);
  }
  if (n >= -(2n ** 31n)) {
    out[0] = 0xd2;
    out.writeInt32BE(Number(n), 1);
    return out.subarray(0, 5);
  }
  out[0] = 0xd3;
  out.writeBigInt64BE(n, 1);
  return out;
};

const count = (fix: number, wide: number, n: number): Buffer =>
  n < 16 ? Buffer.of(fix + n) : Buffer.of(wide, n >> 8, n & 255);

export const pack = (v: Packable): Buffer => {
  if (v === null) return Buffer.of(0xc0);
  if (typeof v === 'boolean') return Buffer.of(v ? 0xc3 : 0xc2);
  if (typeof v === 'number') return integer(BigInt(v));
  if (typeof v === 'bigint') return integer(v);
  if (typeof v === 'string') return pack(typed(3, Buffer.from(v)));
  if ('raw' in v) return Buffer.from(v.raw);
  if ('f64' in v) {
    const out = Buffer.of(0xcb, 0, 0, 0, 0, 0, 0, 0, 0);
    out.writeDoubleBE(v.f64, 1);
    return out;
  }
  const flags = v.flags ?? 0;
  const marker = flags === 0 ? [] : [Buffer.of(0xc7, 0, flags)];
  if ('list' in v)
    return Buffer.concat([count(0x90, 0xdc, v.list.length + marker.length), ...marker, ...v.list.map(pack)]);
  const nil = flags === 0 ? [] : [Buffer.of(0xc0)];
  const pairs = v.map.flatMap(([key, value]) => [pack(key), pack(value)]);
  return Buffer.concat([count(0x80, 0xde, v.map.length + marker.length), ...marker, ...nil, ...pairs]);
};

/** An operation: `[number, …arguments]`. */
export const operation = (subop: number, ...args: Packable[]): Buffer => pack({ list: [subop, ...args] });

/** Order of packed elements, from the reference: by kind, then by value. For plain scalars. */
const payload = (v: Packable): Buffer => {
  const b = pack(v);
  return b.subarray(b[0]! < 0xc0 ? 1 : b[0] === 0xd9 ? 2 : 3);
};

const rank = (v: Packable): number =>
  v === null
    ? 0
    : typeof v === 'boolean'
      ? 1
      : typeof v === 'number' || typeof v === 'bigint'
        ? 2
        : typeof v === 'string'
          ? 3
          : 'list' in v
            ? 4
            : 'map' in v
              ? 5
              : 'f64' in v
                ? 7
                : payload(v)[0] === 23
                  ? 8
                  : 6;

export const order = (a: Packable, b: Packable): number => {
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  if (typeof a === 'number' || typeof a === 'bigint' || typeof a === 'boolean') return Number(a) - Number(b);
  if (a === null) return 0;
  if (typeof a === 'string') return Buffer.compare(Buffer.from(a), Buffer.from(b as string));
  if ('f64' in a) return a.f64 - (b as { f64: number }).f64;
  if ('list' in a) {
    const other = (b as { list: readonly Packable[] }).list;
    for (let i = 0; i < Math.min(a.list.length, other.length); i++) {
      const c = order(a.list[i]!, other[i]!);
      if (c !== 0) return c;
    }
    return a.list.length - other.length;
  }
  if ('map' in a) {
    const other = (b as { map: readonly (readonly [Packable, Packable])[] }).map;
    if (a.map.length !== other.length) return a.map.length - other.length;
    for (let i = 0; i < a.map.length; i++) {
      const c = order(a.map[i]![0], other[i]![0]) || order(a.map[i]![1], other[i]![1]);
      if (c !== 0) return c;
    }
    return 0;
  }
  return Buffer.compare(payload(a), payload(b));
};

export const isSame = (a: Packable, b: Packable): boolean => order(a, b) === 0;

const smallInt = fc.integer({ min: -3, max: 5 });

export const scalar: fc.Arbitrary<Packable> = fc.oneof(
  { weight: 6, arbitrary: smallInt as fc.Arbitrary<Packable> },
  { weight: 2, arbitrary: fc.constantFrom<Packable>('a', 'b', 'ab', '') },
  {
    weight: 2,
    arbitrary: fc.constantFrom<Packable>(
      null,
      true,
      false,
      { f64: 1.5 },
      { f64: 2 },
      { f64: -0.5 },
      blob(1),
      blob(1, 2),
      blob(),
      geo('{"type":"Point","coordinates":[0,0]}'),
      typed(7, Buffer.of(9)),
      300,
      -300,
      70000,
      2n ** 40n,
      -(2n ** 40n),
      'a longer string, beyond thirty-one bytes',
    ),
  },
);

export const key: fc.Arbitrary<Packable> = fc.oneof(
  { weight: 4, arbitrary: smallInt as fc.Arbitrary<Packable> },
  { weight: 3, arbitrary: fc.constantFrom<Packable>('a', 'b', 'c', 'd') },
  { weight: 1, arbitrary: fc.constantFrom<Packable>(blob(1), blob(2), 1000) },
);

const unique = (pairs: readonly (readonly [Packable, Packable])[]) =>
  pairs.filter(([k], i) => !pairs.slice(0, i).some(([other]) => isSame(k, other)));

/** A list as a server stores it: ordered lists are in order. */
export const listOf = (
  element: fc.Arbitrary<Packable>,
  maxLength = 7,
  minLength = 0,
): fc.Arbitrary<Packable> =>
  fc.tuple(fc.array(element, { minLength, maxLength }), fc.constantFrom(0, 0, 1)).map(([list, flags]) => ({
    list: flags === 1 ? list.toSorted(order) : list,
    flags,
  }));

/** A map as a server stores it: sorted by key. */
export const mapOf = (element: fc.Arbitrary<Packable>, maxLength = 7): fc.Arbitrary<Packable> =>
  fc
    .tuple(fc.array(fc.tuple(key, element), { maxLength }), fc.constantFrom(0, 0, 1, 3))
    .map(([pairs, flags]) => ({ map: unique(pairs).toSorted(([a], [b]) => order(a, b)), flags }));

const nested = fc.oneof(
  { weight: 5, arbitrary: scalar },
  { weight: 1, arbitrary: listOf(scalar, 3) },
  { weight: 1, arbitrary: mapOf(scalar, 3) },
);

/** A value with lists and maps inside, to three levels. */
export const value: fc.Arbitrary<Packable> = fc.oneof(
  { weight: 5, arbitrary: scalar },
  { weight: 1, arbitrary: listOf(nested, 4) },
  { weight: 1, arbitrary: mapOf(nested, 4) },
);
