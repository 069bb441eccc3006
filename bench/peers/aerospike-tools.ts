import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { PitrError } from '../../engine/errors.ts';
import type { Place } from '../cluster-jobs.ts';

/** Aerospike's own backup tools, as they are on PATH. */
export const findTool = (name: 'asbackup' | 'asrestore'): string | undefined => {
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(dir, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // the next one
    }
  }
  return undefined;
};

/** Seconds that a tool took. @throws internal when it failed */
const run = async (path: string, args: readonly string[]): Promise<number> => {
  const started = performance.now();
  const child: ChildProcess = spawn(path, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr?.on('data', (text) => {
    said = (said + text).slice(-1000);
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new PitrError('internal', { what: `${path} ended with ${code}: ${said}` });
  return (performance.now() - started) / 1000;
};

const placeArgs = ({ host, port, namespace }: Place): string[] => [
  '-h',
  host,
  '-p',
  `${port}`,
  '-n',
  namespace,
];

/** Backs up into `dir`, which is made, with four scans. */
export const asbackup = (tool: string, place: Place, dir: string, isCompressed: boolean): Promise<number> => {
  mkdirSync(dir);
  return run(tool, [...placeArgs(place), '-d', dir, '-w', '4', ...(isCompressed ? ['-z', 'zstd'] : [])]);
};

export const asrestore = (tool: string, place: Place, dir: string, isCompressed: boolean): Promise<number> =>
  run(tool, [...placeArgs(place), '-d', dir, ...(isCompressed ? ['-z', 'zstd'] : [])]);
