import { PitrError } from '../engine/errors.ts';

const DURATION = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/;
const UNITS_MS = [86_400_000, 3_600_000, 60_000, 1000, 1];

/**
 * Reads `10m`, `1h30m`, `500ms`, `7d` as ms. Units d, h, m, s, ms: each at most once, the larger first. A bare number is
 * refused, because half of its readers would take it for seconds and half for ms.
 *
 * @throws PitrError `usage`
 */
export function parseDuration(text: string): number {
  const match = DURATION.exec(text);
  const parts = match?.slice(1) ?? [];
  const ms = parts.reduce((sum, digits, i) => sum + Number(digits ?? 0) * UNITS_MS[i]!, 0);
  if (text === '' || match === null || !Number.isSafeInteger(ms)) {
    throw new PitrError('usage', {
      what: `"${text}" is not a duration`,
      hint: 'write it like 500ms, 10m, 1h30m or 7d',
    });
  }
  return ms;
}
