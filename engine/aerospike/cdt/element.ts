/**
 * One element of the msgpack dialect (aerospike-wire.md 6), read in place: its kind, its number or bytes, where it ends, how it
 * orders. Nothing here recurses: nesting of any depth costs a counter (L4).
 */

/** What an element is. The numbers are the order of elements of different kinds: an integer sorts before every string. */
export const Kind = {
  none: 0,
  nil: 1,
  false: 2,
  true: 3,
  negative: 4,
  integer: 5,
  string: 6,
  list: 7,
  map: 8,
  bytes: 9,
  double: 10,
  geojson: 11,
  extension: 12,
  wildcard: 13,
  infinity: 14,
} as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** A run of bytes that is one element, or the contents of several. */
export interface Span {
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly end: number;
}

/** Extension type of query arguments, which are never stored. */
const QUERY_EXTENSION = 0xff;

const PARTICLE_STRING = 3;
const PARTICLE_GEOJSON = 23;

const float = new DataView(new ArrayBuffer(8));

/**
 * What the first bytes of an element say. One object is used again and again: reading makes no garbage. Bytes beyond the
 * end read as nothing: `kind` is then none.
 */
export class Head {
  kind: Kind = Kind.none;
  /** Integers: the 64 bits, sign-extended, as two unsigned words. */
  high = 0;
  low = 0;
  /** Doubles. */
  double = 0;
  /** Strings, bytes, extensions: bytes of the payload, which starts at `data`. Lists: elements. Maps: pairs. */
  length = 0;
  data = 0;
  /** Extensions: their type byte. */
  extension = 0;
  /** Where the next element starts: for lists and maps their first child. */
  next = 0;

  read(b: Uint8Array, at: number, end: number): void {
    this.kind = Kind.none;
    if (at >= end) return;
    const tag = b[at]!;
    this.next = at + 1;
    if (tag < 0x80) this.#int(0, tag);
    else if (tag >= 0xe0) this.#int(0xffffffff, 0xffffff00 + tag);
    else if (tag < 0x90) this.#container(Kind.map, tag & 0x0f);
    else if (tag < 0xa0) this.#container(Kind.list, tag & 0x0f);
    else if (tag < 0xc0) this.#payload(b, end, tag & 0x1f);
    else this.#tagged(tag, b, at + 1, end);
    if (this.next > end) this.kind = Kind.none;
  }

  #tagged(tag: number, b: Uint8Array, at: number, end: number): void {
    const width = WIDTHS[tag - 0xc0]!;
    this.next = at + width;
    if (tag < 0xc4) this.kind = CONSTANTS[tag - 0xc0]!;
    else if (tag < 0xc7) this.#payload(b, end, unsigned(b, at, width));
    else if (tag < 0xca) this.#ext(b, end, unsigned(b, at, width));
    else if (tag < 0xcc) this.#double(b, at, width);
    else if (tag < 0xd4) this.#wideInt(tag, b, at, width);
    else if (tag < 0xd9) this.#ext(b, end, 1 << (tag - 0xd4));
    else if (tag < 0xdc) this.#payload(b, end, unsigned(b, at, width));
    else this.#container(tag < 0xde ? Kind.list : Kind.map, unsigned(b, at, width));
  }

  #double(b: Uint8Array, at: number, width: number): void {
    float.setUint32(0, u32(b, at));
    if (width === 8) float.setUint32(4, u32(b, at + 4));
    this.double = width === 8 ? float.getFloat64(0) : float.getFloat32(0);
    this.kind = Kind.double;
  }

  /** Tags cc to cf are unsigned: with 64 bits, above 2^63, they sort after all others. d0 to d3 are signed. */
  #wideInt(tag: number, b: Uint8Array, at: number, width: number): void {
    if (width === 8) this.#int(u32(b, at), u32(b, at + 4));
    else if (tag < 0xd0) this.#int(0, unsigned(b, at, width));
    else {
      const unused = 32 - 8 * width;
      this.#signed((unsigned(b, at, width) << unused) >> unused);
    }
    if (tag < 0xd0) this.kind = Kind.integer;
  }

  #signed(n: number): void {
    this.#int(n < 0 ? 0xffffffff : 0, n >>> 0);
  }

  #int(high: number, low: number): void {
    this.high = high;
    this.low = low;
    this.kind = high >= 0x80000000 ? Kind.negative : Kind.integer;
  }

  #container(kind: Kind, count: number): void {
    this.length = count;
    this.kind = kind;
  }

  #payload(b: Uint8Array, end: number, length: number): void {
    this.data = this.next;
    this.length = length;
    this.next += length;
    if (this.next > end) return;
    const type = length === 0 ? 0 : b[this.data];
    this.kind =
      type === PARTICLE_STRING ? Kind.string : type === PARTICLE_GEOJSON ? Kind.geojson : Kind.bytes;
  }

  #ext(b: Uint8Array, end: number, length: number): void {
    if (this.next >= end) return;
    this.extension = b[this.next]!;
    this.data = this.next + 1;
    this.length = length;
    this.next = this.data + length;
    if (this.next > end) return;
    this.kind = Kind.extension;
    if (this.extension !== QUERY_EXTENSION || length !== 1) return;
    if (b[this.data] === 0) this.kind = Kind.wildcard;
    else if (b[this.data] === 1) this.kind = Kind.infinity;
  }

  /** An integer as a number, rounded beyond 2^53: good for indexes and counts. */
  get number(): number {
    return (this.high | 0) * 0x1_0000_0000 + this.low;
  }

  /** An integer as the unsigned number that its 64 bits are. */
  get unsigned(): number {
    return this.high * 0x1_0000_0000 + this.low;
  }

  /** An integer as the signed 64-bit value that its bits are. */
  get bigint(): bigint {
    return (BigInt(this.high | 0) << 32n) | BigInt(this.low);
  }

  get isInteger(): boolean {
    return this.kind === Kind.integer || this.kind === Kind.negative;
  }

  get isContainer(): boolean {
    return this.kind === Kind.list || this.kind === Kind.map;
  }

  /** Elements that follow directly inside. */
  get children(): number {
    return this.kind === Kind.list ? this.length : this.kind === Kind.map ? 2 * this.length : 0;
  }

  /** True for query arguments: wildcard, infinity, and what may become one. */
  get isQueryArgument(): boolean {
    return this.kind > Kind.extension || (this.kind === Kind.extension && isReserved(this));
  }
}

const isReserved = (h: Head): boolean => h.extension === QUERY_EXTENSION && h.length > 0 && h.length < 4;

/** Bytes of the number that follows a tag from c0 on. */
const WIDTHS = Uint8Array.of(
  ...[0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8],
  ...[1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4],
);

const CONSTANTS = [Kind.nil, Kind.none, Kind.false, Kind.true] as const;

const unsigned = (b: Uint8Array, at: number, width: number): number =>
  width === 1 ? u8(b, at) : width === 2 ? u16(b, at) : u32(b, at);

// Out of bounds reads as 0: `next` then lies beyond the end and the head is none.
const u8 = (b: Uint8Array, at: number): number => b[at] ?? 0;
const u16 = (b: Uint8Array, at: number): number => (u8(b, at) << 8) | u8(b, at + 1);
const u32 = (b: Uint8Array, at: number): number => u16(b, at) * 0x10000 + u16(b, at + 2);

const scratch = new Head();

/** Set by {@link skip}: a query argument was passed. */
export let skippedQueryArgument = false;

/** Where `count` elements that start at `at` end, or -1 when bytes are missing or not of the dialect. */
export const skip = (b: Uint8Array, at: number, end: number, count = 1): number => {
  const h = scratch;
  skippedQueryArgument = false;
  let next = at;
  // A lie about a count ends at the last byte: every element has at least one.
  for (let left = count; left > 0; left--) {
    h.read(b, next, end);
    if (h.kind === Kind.none) return -1;
    if (h.isQueryArgument) skippedQueryArgument = true;
    left += h.children;
    next = h.next;
  }
  return next;
};

/** Set by {@link compare}: it met a map with pairs that has no order by key. Their order says nothing then. */
export let comparedUnorderedMap = false;

const left = new Head();
const right = new Head();

/** Bytes of the order marker and what belongs to it, as elements: one in a list, a pair in a map. */
const skipMarker = (h: Head, b: Uint8Array, end: number): void => {
  if (h.length === 0) return;
  const tag = b[h.next];
  if (tag === undefined || !isExtensionTag(tag)) {
    if (h.kind === Kind.map) comparedUnorderedMap = true;
    return;
  }
  const { kind, length, next } = h;
  h.read(b, next, end);
  if (kind === Kind.map && (h.extension & KEY_ORDERED) === 0) comparedUnorderedMap = true;
  const isMarker = h.kind === Kind.extension && h.extension !== QUERY_EXTENSION;
  const after = isMarker ? skip(b, next, end, kind === Kind.map ? 2 : 1) : next;
  h.kind = after < 0 ? Kind.none : kind;
  h.length = isMarker ? length - 1 : length;
  h.next = after;
};

const KEY_ORDERED = 1;

const isExtensionTag = (tag: number): boolean => (tag >= 0xc7 && tag <= 0xc9) || (tag >= 0xd4 && tag <= 0xd8);

/**
 * Order of two elements: by kind, then by value. Integers never equal doubles; NaN equals every double; lists compare element by
 * element, maps by size first. A wildcard on either side, at any depth, ends the comparison with 0.
 */
export const compare = (a: Uint8Array, aAt: number, b: Uint8Array, bAt: number): -1 | 0 | 1 => {
  const l = left;
  const r = right;
  l.next = aAt;
  r.next = bAt;
  let verdict: -1 | 0 | 1 = 0;
  comparedUnorderedMap = false;
  for (let pairs = 1; pairs > 0; pairs--) {
    l.read(a, l.next, a.length);
    r.read(b, r.next, b.length);
    if (l.kind === Kind.list || l.kind === Kind.map) skipMarker(l, a, a.length);
    if (r.kind === Kind.list || r.kind === Kind.map) skipMarker(r, b, b.length);
    if (l.kind === Kind.none || r.kind === Kind.none) return verdict;
    if (l.kind === Kind.wildcard || r.kind === Kind.wildcard) return 0;
    if (l.kind !== r.kind) return l.kind < r.kind ? -1 : 1;
    switch (l.kind) {
      case Kind.list:
        if (l.length === r.length) pairs += l.length;
        else {
          // The rest of the outer lists no longer matters: the shorter list decides unless an element does.
          pairs = 1 + Math.min(l.length, r.length);
          verdict = l.length < r.length ? -1 : 1;
        }
        break;
      case Kind.map:
        if (l.length !== r.length) return l.length < r.length ? -1 : 1;
        pairs += 2 * l.length;
        break;
      default: {
        const order = compareScalars(l, a, r, b);
        if (order !== 0) return order;
      }
    }
  }
  return verdict;
};

const compareScalars = (l: Head, a: Uint8Array, r: Head, b: Uint8Array): -1 | 0 | 1 => {
  switch (l.kind) {
    case Kind.negative:
    case Kind.integer:
      if (l.high !== r.high) return l.high < r.high ? -1 : 1;
      return l.low === r.low ? 0 : l.low < r.low ? -1 : 1;
    case Kind.double:
      return l.double < r.double ? -1 : l.double > r.double ? 1 : 0;
    case Kind.string:
    case Kind.bytes:
    case Kind.geojson:
    case Kind.extension:
      return compareBytes(a, l.data, l.length, b, r.data, r.length);
    default:
      return 0;
  }
};

/** Bytewise, a prefix first. */
export const compareBytes = (
  a: Uint8Array,
  aAt: number,
  aLength: number,
  b: Uint8Array,
  bAt: number,
  bLength: number,
): -1 | 0 | 1 => {
  const common = Math.min(aLength, bLength);
  for (let i = 0; i < common; i++) {
    const x = a[aAt + i]!;
    const y = b[bAt + i]!;
    if (x !== y) return x < y ? -1 : 1;
  }
  return aLength === bLength ? 0 : aLength < bLength ? -1 : 1;
};

/** Map keys are integers, strings and blobs (type 4), since servers of version 8. */
export const isMapKey = (b: Uint8Array, at: number, end: number): boolean => {
  const h = scratch;
  h.read(b, at, end);
  if (h.isInteger || h.kind === Kind.string) return true;
  return h.kind === Kind.bytes && h.length > 0 && b[h.data] === 4;
};
