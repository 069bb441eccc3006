import { PitrError } from '../engine/errors.ts';

const UNITS: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** Reads `10GiB`, `500MB`, `0B` as bytes. A bare number is refused but for 0: its unit would be guessed. @throws usage */
export function parseByteSize(text: string): number {
  const [, digits, unit = ''] = /^(\d+(?:\.\d+)?) ?([A-Za-z]+)?$/.exec(text) ?? [];
  const factor = unit === '' && Number(digits) === 0 ? 1 : UNITS[unit];
  const bytes = Math.round(Number(digits) * (factor ?? Number.NaN));
  if (!Number.isSafeInteger(bytes))
    throw new PitrError('usage', {
      what: `"${text}" is not a size`,
      hint: 'write it like 500MB, 512MiB or 10GiB',
    });
  return bytes;
}
