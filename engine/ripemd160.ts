/**
 * RIPEMD-160 (Dobbertin, Bosselaers, Preneel 1996) of one block: what a record's digest is for every key of usual size. OpenSSL is
 * no slower on the block itself, but each call makes a Buffer with memory of its own, which costs more than the hash
 * (docs/performance-commits.md). Longer messages go there.
 */

/** Bytes of a message that fit one block with padding and length. */
export const ONE_BLOCK_BYTES_MAX = 55;

const tableOf = (text: string): Uint8Array => Uint8Array.from(text, (c) => Number.parseInt(c, 16));
// word and rotation of each of the 80 steps, on the left line and on the right
const LEFT_WORD = tableOf(
  '0123456789abcdef' + '74d1a6f3c0952eb8' + '3ae49f812706db5c' + '19ba08c4d37fe562' + '40597c2ae138b6fd',
);
const RIGHT_WORD = tableOf(
  '5e7092b4d6f81a3c' + '6b370d5aef8c4912' + 'f5137e69b8c2a04d' + '86413bf05c2d97ae' + 'cfa4158762de039b',
);
const LEFT_SHIFT = tableOf(
  'befc5879bdef6798' + '768db97f7cf9b7dc' + 'bd67e9dfe8d65c75' + 'bcefef989e56865c' + '9f5b68dc5cdeb856',
);
const RIGHT_SHIFT = tableOf(
  '899bdff5778beec6' + '9df7c89b77c76fdb' + '97fb866ecd5edd75' + 'f58bee6e69c9c5f8' + '85c9c5e68d65fdbb',
);

const block = new Int32Array(16);
const bytes = new Uint8Array(block.buffer);
const isLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** Empty block for a message; at most {@link ONE_BLOCK_BYTES_MAX} bytes go in before {@link ripemd160}. */
export const messageBlock = (): Uint8Array => {
  block.fill(0);
  return bytes;
};

/** False where {@link messageBlock} cannot be used: words are taken in the machine's order. */
export const hasOneBlock = isLittleEndian;

/** Hash of the first `length` bytes of the message block, into 20 bytes of `out`. */
export const ripemd160 = (length: number, out: Uint8Array): void => {
  bytes[length] = 0x80;
  block[14] = length << 3;
  let a = 0x67452301;
  let b = 0xefcdab89 | 0;
  let c = 0x98badcfe | 0;
  let d = 0x10325476;
  let e = 0xc3d2e1f0 | 0;
  let t = 0;
  for (let j = 0; j < 16; j++) {
    t = (a + (b ^ c ^ d) + block[LEFT_WORD[j]]) | 0;
    t = (((t << LEFT_SHIFT[j]) | (t >>> (32 - LEFT_SHIFT[j]))) + e) | 0;
    a = e;
    e = d;
    d = (c << 10) | (c >>> 22);
    c = b;
    b = t;
  }
  for (let j = 16; j < 32; j++) {
    t = (a + ((b & c) | (~b & d)) + block[LEFT_WORD[j]] + 0x5a827999) | 0;
    t = (((t << LEFT_SHIFT[j]) | (t >>> (32 - LEFT_SHIFT[j]))) + e) | 0;
    a = e;
    e = d;
    d = (c << 10) | (c >>> 22);
    c = b;
    b = t;
  }
  for (let j = 32; j < 48; j++) {
    t = (a + ((b | ~c) ^ d) + block[LEFT_WORD[j]] + 0x6ed9eba1) | 0;
    t = (((t << LEFT_SHIFT[j]) | (t >>> (32 - LEFT_SHIFT[j]))) + e) | 0;
    a = e;
    e = d;
    d = (c << 10) | (c >>> 22);
    c = b;
    b = t;
  }
  for (let j = 48; j < 64; j++) {
    t = (a + ((b & d) | (c & ~d)) + block[LEFT_WORD[j]] + 0x8f1bbcdc) | 0;
    t = (((t << LEFT_SHIFT[j]) | (t >>> (32 - LEFT_SHIFT[j]))) + e) | 0;
    a = e;
    e = d;
    d = (c << 10) | (c >>> 22);
    c = b;
    b = t;
  }
  for (let j = 64; j < 80; j++) {
    t = (a + (b ^ (c | ~d)) + block[LEFT_WORD[j]] + 0xa953fd4e) | 0;
    t = (((t << LEFT_SHIFT[j]) | (t >>> (32 - LEFT_SHIFT[j]))) + e) | 0;
    a = e;
    e = d;
    d = (c << 10) | (c >>> 22);
    c = b;
    b = t;
  }
  const [a1, b1, c1, d1, e1] = [a, b, c, d, e];
  a = 0x67452301;
  b = 0xefcdab89 | 0;
  c = 0x98badcfe | 0;
  d = 0x10325476;
  e = 0xc3d2e1f0 | 0;
  for (let j = 0; j < 16; j++) {
    t = (a + (b ^ (c | ~d)) + block[RIGHT_WORD[j]] + 0x50a28be6) | 0;
    t = (((t << RIGHT_SHIFT[j]) | (t >>> (32 - RIGHT_SHIFT[j]))) + e) | 0;
    a = e;
    e = d;
    d = (c << 10) | (c >>> 22);
    c = b;
    b = t;
  }
  for (let j = 16; j < 32; j++) {
    t = (a + ((b & d) | (c & ~d)) + block[RIGHT_WORD[j]] + 0x5c4dd124) | 0;
    t = (((t << RIGHT_SHIFT[j]) | (t >>> (32 - RIGHT_SHIFT[j]))) + e) | 0;
    a = e;
    e = d;
    d = (c << 10) | (c >>> 22);
    c = b;
    b = t;
  }
  for (let j = 32; j < 48; j++) {
    t = (a + ((b | ~c) ^ d) + block[RIGHT_WORD[j]] + 0x6d703ef3) | 0;
    t = (((t << RIGHT_SHIFT[j]) | (t >>> (32 - RIGHT_SHIFT[j]))) + e) | 0;
    a = e;
    e = d;
    d = (c << 10) | (c >>> 22);
    c = b;
    b = t;
  }
  for (let j = 48; j < 64; j++) {
    t = (a + ((b & c) | (~b & d)) + block[RIGHT_WORD[j]] + 0x7a6d76e9) | 0;
    t = (((t << RIGHT_SHIFT[j]) | (t >>> (32 - RIGHT_SHIFT[j]))) + e) | 0;
    a = e;
    e = d;
    d = (c << 10) | (c >>> 22);
    c = b;
    b = t;
  }
  for (let j = 64; j < 80; j++) {
    t = (a + (b ^ c ^ d) + block[RIGHT_WORD[j]]) | 0;
    t = (((t << RIGHT_SHIFT[j]) | (t >>> (32 - RIGHT_SHIFT[j]))) + e) | 0;
    a = e;
    e = d;
    d = (c << 10) | (c >>> 22);
    c = b;
    b = t;
  }
  putWord(out, 0, 0xefcdab89 + c1 + d);
  putWord(out, 4, 0x98badcfe + d1 + e);
  putWord(out, 8, 0x10325476 + e1 + a);
  putWord(out, 12, 0xc3d2e1f0 + a1 + b);
  putWord(out, 16, 0x67452301 + b1 + c);
};

const putWord = (out: Uint8Array, at: number, word: number): void => {
  out[at] = word;
  out[at + 1] = word >>> 8;
  out[at + 2] = word >>> 16;
  out[at + 3] = word >>> 24;
};
