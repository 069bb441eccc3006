/** Messages written out by hand from aerospike-wire.md: none comes from our encoder. Spaces are for the eye. */

export const bytes = (hex: string): Buffer => {
  const clean = hex.replace(/\s|#.*$/gm, '');
  if (!/^([0-9a-f]{2})*$/.test(clean)) throw new Error(`not hex: ${hex}`);
  return Buffer.from(clean, 'hex');
};

/** RIPEMD-160 of `demo`, 01, eight bytes of 1: from OpenSSL. */
export const DIGEST_HEX = 'b7f4b83889e2da67de683e1df6919a1eacc446c8';

/** Write of bin a = 1 into test/demo/1, timeout 1000 ms. */
export const PUT = bytes(`
  02 03 000000000052
  16 00 01 00 00 00  00000000 00000000 000003e8 0003 0001
  00000005 00 74657374
  00000005 01 64656d6f
  00000015 04 ${DIGEST_HEX}
  0000000d 02 01 00 01 61 0000000000000001
`);

/** Read of all bins of the same record, with a filter: last_update >= 1. */
export const GET = bytes(`
  02 03 000000000053
  16 03 00 00 00 00  00000000 00000000 00000000 0004 0000
  00000005 00 74657374
  00000005 01 64656d6f
  00000015 04 ${DIGEST_HEX}
  0000000e 2b 93 04 91 42 cf 0000000000000001
`);

/** Its answer: generation 3, void time 500000000, two bins. */
export const GOT = bytes(`
  02 03 000000000038
  16 00 00 00 00 00  00000003 1dcd6500 00000000 0000 0002
  0000000d 01 01 00 01 61 0000000000000001
  0000000d 01 03 00 04 6e616d65 68656c6c6f
`);

/** A chunk of a scan: one record with set and stored key, partition 7 that is not there, the end. */
export const SCANNED = bytes(`
  02 03 000000000076
  16 00 00 00 00 00  00000001 00000000 00000000 0004 0001
  00000005 00 74657374
  00000015 04 ${DIGEST_HEX}
  00000005 01 64656d6f
  0000000a 02 01 0000000000000001
  0000000d 01 01 00 01 61 0000000000000001
  16 00 00 04 00 0b  00000007 00000000 00000000 0000 0000
  02 03 000000000016
  16 00 00 01 00 00  00000000 00000000 00000000 0000 0000
`);

/** Three rows: a read of everything, the same of another record, a remove. Flags 0x0d, as the official client has it. */
export const BATCH = bytes(`
  02 03 0000000000a7
  16 08 00 00 00 00  00000000 00000000 000003e8 0001 0000
  0000008d 29 00000003 0d
  00000000 ${DIGEST_HEX} 0a 03 00 00 00000000 0002 0000
    00000005 00 74657374  00000005 01 64656d6f
  00000001 0000000000000000000000000000000000000002 01
  00000002 0000000000000000000000000000000000000003 0e 00 83 00 0005 00000000 0002 0000
    00000005 00 74657374  00000005 01 64656d6f
`);

/** LOGIN of user joe with a credential of four bytes. */
export const LOGIN = bytes(`
  02 02 000000000021
  00 00 14 02 000000000000000000000000
  00000004 00 6a6f65
  00000005 03 61626364
`);

/** PUT inside a compressed frame: zlib with one stored block, its checksum from the definition of Adler-32. */
export const compressedPut = (): Buffer => {
  const length = Buffer.alloc(4);
  length.writeUInt16LE(PUT.length, 0);
  length.writeUInt16LE(~PUT.length & 0xffff, 2);
  let a = 1;
  let b = 0;
  for (const byte of PUT) {
    a = (a + byte) % 65_521;
    b = (b + a) % 65_521;
  }
  const adler = Buffer.alloc(4);
  adler.writeUInt32BE(((b << 16) | a) >>> 0);
  const stream = Buffer.concat([bytes('78 01 01'), length, PUT, adler]);
  const size = Buffer.alloc(8);
  size.writeUInt32BE(PUT.length, 4);
  const head = bytes('02 04 000000000000');
  head.writeUInt32BE(8 + stream.length, 4);
  return Buffer.concat([head, size, stream]);
};
