/** Changes to bytes and to trees (what JSON and msgpack hold), chosen by a seeded generator. */
import type { Rng } from '../model/rng.ts';

const NUMBERS = [0, 1, 2, 7, 16, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];
const ODD: readonly unknown[] = [
  null,
  true,
  '',
  'x',
  0,
  -1,
  1.5,
  2 ** 53,
  1e308,
  -0,
  [],
  {},
  [[[[]]]],
  '0-4095',
  '9999',
  'all',
  '\ud800',
  '__proto__',
  'a'.repeat(300),
];
const TEXTS = [
  '-',
  ',',
  ':',
  '/',
  '0',
  '9'.repeat(30),
  '*',
  '\0',
  '\n',
  'é',
  '🚀',
  ' ',
  '%',
  '"',
  '{',
  '[',
  '-1',
  '1e9',
];

/** One to a few changes. `others` are seeds to splice from. */
export const mutateBytes = (input: Buffer, others: readonly Buffer[], rng: Rng): Buffer => {
  let bytes: Buffer = Buffer.from(input);
  for (let n = rng.pick([1, 1, 1, 2, 4]); n > 0; n--) bytes = mutateOnce(bytes, others, rng);
  return bytes;
};

const mutateOnce = (b: Buffer, others: readonly Buffer[], rng: Rng): Buffer => {
  const at = rng.int(0, Math.max(0, b.length - 1));
  const end = Math.min(b.length, at + rng.pick([1, 2, 4, 8, 20, 100]));
  const insert = (bytes: Uint8Array): Buffer => Buffer.concat([b.subarray(0, at), bytes, b.subarray(at)]);
  switch (rng.int(0, 10)) {
    case 0:
      if (b.length > 0) b[at] ^= 1 << rng.int(0, 7);
      return b;
    case 1:
      if (b.length > 0) b[at] = rng.pick([0, 1, 0x7f, 0x80, 0xff, 0xc1, 0xc7, 0xdd, 0xdf, 0x9f, 0x8f]);
      return b;
    case 2:
      return b.subarray(0, at);
    case 3:
      return Buffer.concat([b.subarray(0, at), b.subarray(end)]);
    case 4:
      return insert(b.subarray(at, end));
    case 5:
      return insert(Buffer.from(Array.from({ length: rng.int(1, 8) }, () => rng.int(0, 255))));
    case 6: {
      const other = rng.pick(others);
      const from = rng.int(0, other.length);
      return Buffer.concat([b.subarray(0, at), other.subarray(from)]);
    }
    case 7:
      b.fill(0, at, end);
      return b;
    case 8: {
      if (b.length < 4) return b;
      const i = Math.min(at, b.length - 4);
      const number = rng.chance(0.5) ? rng.pick(NUMBERS) : (b.readUInt32LE(i) + rng.int(-2, 2)) >>> 0;
      if (rng.chance(0.5)) b.writeUInt32LE(number, i);
      else b.writeUInt32BE(number, i);
      return b;
    }
    case 9:
      return insert(Buffer.from(rng.pick(TEXTS)));
    default:
      return b.copyWithin(at, rng.int(0, b.length), b.length);
  }
};

/** A copy of a tree in which one or a few nodes are replaced, dropped, doubled or moved. */
export const mutateTree = (tree: unknown, rng: Rng): unknown => {
  const copy = structuredClone(tree);
  const places: { of: Record<string, unknown>; key: string }[] = [];
  const walk = (node: unknown): void => {
    if (typeof node !== 'object' || node === null || node instanceof Uint8Array) return;
    for (const key of Object.keys(node)) {
      places.push({ of: node as Record<string, unknown>, key });
      walk((node as Record<string, unknown>)[key]);
    }
  };
  walk(copy);
  if (places.length === 0) return rng.pick(ODD);
  for (let n = rng.pick([1, 1, 1, 2, 3]); n > 0; n--) {
    const { of, key } = rng.pick(places);
    const value = of[key];
    switch (rng.int(0, 6)) {
      case 0:
        if (Array.isArray(of)) of.splice(Number(key), 1);
        else delete of[key];
        break;
      case 1:
        if (Array.isArray(of)) of.push(structuredClone(value));
        else of[`${key}2`] = structuredClone(value);
        break;
      case 2: {
        const from = rng.pick(places);
        of[key] = structuredClone(from.of[from.key]);
        break;
      }
      case 3:
        if (typeof value === 'number') {
          of[key] = rng.pick([value + 1, value - 1, -value, value * 2 ** 32, value + 0.5, rng.pick(NUMBERS)]);
          break;
        }
        if (typeof value === 'string') {
          of[key] = value.slice(0, rng.int(0, value.length)) + rng.pick(TEXTS);
          break;
        }
        of[key] = rng.pick(ODD);
        break;
      default:
        of[key] = structuredClone(rng.pick(ODD));
    }
  }
  return copy;
};
