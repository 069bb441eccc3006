/** Numbers, sizes, durations and instants as a person reads them. Machines get the raw values through --json. */

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** What a Date can hold. Beyond it toISOString throws, and a status screen must not die of one odd void time. */
const DATE_MS_MAX = 8.64e15;

const COUNT = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;

/** `1234567` → `1.2 MiB`. Powers of 1024; one decimal except for plain bytes. */
export function formatBytes(bytes: number | bigint): string {
  let value = Math.abs(Number(bytes));
  if (!Number.isFinite(value)) return '?';
  let unit = 0;
  // Compare what will be printed, not the value: 1023.99 KiB would come out as "1024.0 KiB".
  while (Math.round(value * 10) / 10 >= 1024 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const sign = bytes < 0 ? '-' : '';
  return `${sign}${unit === 0 ? Math.round(value) : value.toFixed(1)} ${BYTE_UNITS[unit]}`;
}

/** `135233` → `135,233`. A bigint keeps every digit. */
export function formatCount(count: number | bigint): string {
  if (typeof count === 'number' && !Number.isFinite(count)) return '?';
  return COUNT.format(count);
}

/** `1400` → `1.4 s`, `125_000` → `2 min 5 s`, `273_600_000` → `3 d 4 h`: two units at most. */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms)) return '?';
  if (ms < 0) return `-${formatDuration(-ms)}`;
  const wholeMs = Math.round(ms);
  if (wholeMs < SECOND_MS) return `${wholeMs} ms`;
  // Each test is made on the rounded value, or 59.97 s would be printed as "60 s".
  const tenths = Math.round(ms / 100);
  if (tenths < 600) return `${tenths / 10} s`;
  const seconds = Math.round(ms / SECOND_MS);
  if (seconds < 3600) return twoUnits(seconds, 60, 'min', 's');
  const minutes = Math.round(ms / MINUTE_MS);
  if (minutes < 24 * 60) return twoUnits(minutes, 60, 'h', 'min');
  return twoUnits(Math.round(ms / HOUR_MS), 24, 'd', 'h');
}

function twoUnits(value: number, per: number, major: string, minor: string): string {
  const rest = value % per;
  const head = `${formatCount(Math.floor(value / per))} ${major}`;
  return rest === 0 ? head : `${head} ${rest} ${minor}`;
}

/** How long ago, in one unit and rounded down: `12 min ago`, `now`; a negative age lies ahead: `in 5 s`. */
export function formatAge(ms: number): string {
  if (!Number.isFinite(ms)) return '?';
  const size = Math.abs(ms);
  if (size < SECOND_MS) return 'now';
  const units = [
    [DAY_MS, 'd'],
    [HOUR_MS, 'h'],
    [MINUTE_MS, 'min'],
    [SECOND_MS, 's'],
  ] as const;
  const [unitMs, name] = units.find(([unit]) => size >= unit)!;
  const text = `${formatCount(Math.floor(size / unitMs))} ${name}`;
  return ms < 0 ? `in ${text}` : `${text} ago`;
}

/** ISO 8601 in UTC with ms: the form in which pitr also reads a recovery target back. */
export function formatIso(epochMs: number): string {
  return Math.abs(epochMs) <= DATE_MS_MAX ? new Date(epochMs).toISOString() : `${epochMs} ms`;
}

/** `2026-11-21T10:00:00.123Z (12 min ago)`. */
export function formatInstant(epochMs: number, nowMs: number): string {
  return `${formatIso(epochMs)} (${formatAge(nowMs - epochMs)})`;
}
