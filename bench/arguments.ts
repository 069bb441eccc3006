/** What the benchmarks' command lines have in common. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const refuse = (what: string): never => {
  process.stderr.write(`${what}\n`);
  process.exit(2);
};

/** A flag's whole number, at least `min`. Ends the process otherwise. */
export const wholeNumber = (flag: string, text: string, min = 1): number => {
  const value = Number(text);
  return Number.isInteger(value) && value >= min
    ? value
    : refuse(`${flag} ${text}: not a whole number from ${min}`);
};

/** One of some words. Ends the process otherwise. */
export const oneOf = <T extends string>(flag: string, text: string, words: readonly T[]): T =>
  words.find((word) => word === text) ?? refuse(`${flag} ${text}: not one of ${words.join(', ')}`);

/** `0.25,1,4` */
export const numbers = (flag: string, text: string): number[] =>
  text.split(',').map((part) => {
    const value = Number(part);
    return value > 0 && Number.isFinite(value)
      ? value
      : refuse(`${flag} ${text}: "${part}" is not a number above 0`);
  });

/** A new directory below `parent` (default: that for temporary files), removed when the process ends, however it does. */
export const benchDirectory = (parent: string | undefined): string => {
  const dir = mkdtempSync(join(resolve(parent ?? tmpdir()), 'pitr-bench-'));
  // a server that runs as a user of its own has its directory below
  chmodSync(dir, 0o711);
  process.once('exit', () => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
  return dir;
};

const started = performance.now();

/** What is being done, on stderr, where it is in nobody's way. */
export const say = (what: string): void =>
  void process.stderr.write(`${((performance.now() - started) / 1000).toFixed(0).padStart(4)} s  ${what}\n`);
