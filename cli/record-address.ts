import { PitrError } from '../engine/errors.ts';
import type { RecordKey } from '../engine/record-key.ts';

const refuse = (text: string, hint: string): never => {
  throw new PitrError('usage', { what: `cannot read record key "${text}"`, hint });
};

/**
 * Reads `NS/SET/KEY`. The key is an integer when it looks like one; `str:`, `int:`, `hex:` (bytes) and `digest:` (40 hex
 * digits) force what it is. An empty set is written `NS//KEY`; the key itself may hold slashes.
 * @throws usage
 */
export const parseRecordAddress = (text: string): RecordKey => {
  const [, namespace, set, key] = /^([^/]+)\/([^/]*)\/(.+)$/s.exec(text) ?? [];
  if (namespace === undefined || key === undefined)
    return refuse(text, 'write NAMESPACE/SET/KEY; NAMESPACE//KEY when there is no set');
  const place = { namespace, set: set ?? '' };
  const [, prefix, rest = ''] = /^(str|int|hex|digest):(.*)$/s.exec(key) ?? [];
  switch (prefix) {
    case 'str':
      return { ...place, key: rest };
    case 'int':
      return /^[+-]?\d+$/.test(rest) ? { ...place, key: BigInt(rest) } : refuse(text, 'int: takes digits');
    case 'hex':
      return { ...place, key: hexBytes(text, rest) };
    case 'digest':
      return { ...place, digest: parseDigest(rest) };
    default:
      return { ...place, key: integerIn(key) ?? key };
  }
};

/** Only what prints back the same: `007` and numbers over 64 bits are strings. */
const integerIn = (key: string): bigint | undefined => {
  if (!/^-?\d{1,20}$/.test(key)) return undefined;
  const integer = BigInt(key);
  return `${integer}` === key && BigInt.asIntN(64, integer) === integer ? integer : undefined;
};

/** 20 bytes from 40 hex digits. @throws usage */
export const parseDigest = (text: string): Buffer =>
  /^[0-9a-f]{40}$/i.test(text) ? Buffer.from(text, 'hex') : refuse(text, 'a digest is 40 hex digits');

const hexBytes = (text: string, digits: string): Buffer =>
  /^([0-9a-f]{2})+$/i.test(digits)
    ? Buffer.from(digits, 'hex')
    : refuse(text, 'hex: takes pairs of hex digits');
