import { ParticleType } from '../../engine/particle.ts';

const OP_EQ = 0x01;
const OP_OR = 0x11;
const OP_SET_NAME = 0x46;

/** `set name = a or set name = b …`, an expression; false where there are none. '' is of records without a set. */
export const setsFilter = (sets: readonly string[]): Buffer => {
  if (sets.length === 0) return Buffer.of(0xc2);
  const terms = sets.map(equals);
  if (terms.length === 1) return terms[0];
  return Buffer.concat([arrayHead(terms.length + 1), Buffer.of(OP_OR), ...terms]);
};

const equals = (set: string): Buffer => {
  const name = Buffer.from(set, 'utf8');
  const length = name.length + 1;
  const head = length < 32 ? Buffer.of(0xa0 | length) : Buffer.of(0xd9, length);
  return Buffer.concat([
    Buffer.of(0x93, OP_EQ, 0x91, OP_SET_NAME),
    head,
    Buffer.of(ParticleType.string),
    name,
  ]);
};

const arrayHead = (length: number): Buffer =>
  length < 16 ? Buffer.of(0x90 | length) : Buffer.of(0xdc, length >> 8, length & 0xff);
