/** Nodes that read a record: its metadata, its key, its bins. */
import { type Particle, ParticleType } from '../../particle.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { PARTICLE_TYPES, valueOfParticle } from './element-of.ts';
import { type ExpressionRecord, int64, type Node, type Value, ValueType } from './node.ts';

/** 2010-01-01T00:00:00Z, where the server's time starts. */
const SERVER_EPOCH_S = 1_262_304_000;

const bad = (why: string): never => {
  throw new Refusal(ResultCode.parameter, why);
};

const metadata = (type: ValueType, read: (record: ExpressionRecord) => Value): Node => ({
  type,
  usesBins: false,
  evaluate: ({ record }) => read(record),
});

const nanoseconds = (ms: number): number | bigint => int64(BigInt(ms) * 1_000_000n);

const ttl = ({ voidTime, now }: ExpressionRecord): number => {
  if (voidTime === 0) return -1;
  return Math.max(0, voidTime - (Math.floor(now / 1000) - SERVER_EPOCH_S));
};

const setName = (): Node => {
  // A scan asks of one set again and again.
  let text = '';
  let bytes: Uint8Array = new Uint8Array(0);
  return metadata(ValueType.string, ({ set }) => {
    if (set !== text) {
      bytes = Buffer.from(set, 'utf8');
      text = set;
    }
    return bytes;
  });
};

const storedBytes = ({ storedBytes }: ExpressionRecord): number => storedBytes;

/** Opcodes 65 to 74, or `undefined` for others. */
export const metadataNode = (code: number): Node | undefined => {
  switch (code) {
    case 65:
      // Namespaces in memory have none, and answer 0.
      return metadata(ValueType.int, () => 0);
    case 66:
      return { ...metadata(ValueType.int, ({ lut }) => nanoseconds(lut)), isLastUpdate: true };
    case 67:
      return metadata(ValueType.int, ({ now, lut }) => Math.max(0, now - lut));
    case 68:
      return metadata(ValueType.int, ({ voidTime }) =>
        voidTime === 0 ? -1 : nanoseconds(1000 * (voidTime + SERVER_EPOCH_S)),
      );
    case 69:
      return metadata(ValueType.int, ttl);
    case 70:
      return setName();
    case 71:
      return metadata(ValueType.bool, ({ key }) => key !== undefined);
    case 72:
      return metadata(ValueType.bool, () => false);
    case 73:
    case 74:
      return metadata(ValueType.int, storedBytes);
    default:
      return undefined;
  }
};

/** Opcode 64. `modulus`: 32 bits are used. @throws Refusal 4 for 0 */
export const digestModulo = (modulus: bigint): Node => {
  const by = Number(BigInt.asIntN(32, modulus));
  if (by === 0) bad('digest modulo 0');
  return metadata(ValueType.int, ({ digest: d }) => {
    const word = ((d[19]! << 24) | (d[18]! << 16) | (d[17]! << 8) | d[16]!) >>> 0;
    return word % by;
  });
};

const KEY_TYPES = new Set<ValueType>([ValueType.int, ValueType.string, ValueType.blob]);

/** Opcode 80: the stored key, when it is of this type. */
export const recordKey = (type: number): Node => {
  if (!KEY_TYPES.has(type as ValueType)) bad(`a key of type ${type}`);
  const valueType = type as ValueType;
  return {
    type: valueType,
    usesBins: true,
    evaluate: ({ record, metadataOnly }) => {
      if (metadataOnly || record.key === undefined) return undefined;
      return valueOfParticle(valueType, record.key);
    },
  };
};

const NAME_BYTES_MAX = 15;

const binName = (bytes: Uint8Array): string => {
  if (bytes.length > NAME_BYTES_MAX || bytes.includes(0)) bad('a bin name');
  return Buffer.from(bytes).toString('utf8');
};

/** Opcode 81: the bin, when it is of this type. */
export const bin = (type: number, nameBytes: Uint8Array): Node => {
  const name = binName(nameBytes);
  if (!PARTICLE_TYPES.has(type as ValueType)) bad(`a bin of type ${type}`);
  const valueType = type as ValueType;
  return {
    type: valueType,
    usesBins: true,
    evaluate: ({ record, metadataOnly }) => {
      if (metadataOnly) return undefined;
      const particle = record.bin(name);
      return particle === undefined ? undefined : valueOfParticle(valueType, particle);
    },
    particle: ({ record, metadataOnly }): Particle | undefined => {
      const particle = metadataOnly ? undefined : record.bin(name);
      return particle?.type === PARTICLE_TYPES.get(valueType) ? particle : undefined;
    },
  };
};

/** Opcode 82: the particle type of a bin, 0 when there is none. */
export const binType = (nameBytes: Uint8Array): Node => {
  const name = binName(nameBytes);
  return {
    type: ValueType.int,
    usesBins: true,
    evaluate: ({ record, metadataOnly }) =>
      metadataOnly ? undefined : (record.bin(name)?.type ?? ParticleType.null),
  };
};
