/**
 * Restores the workload of `core` (workload.ts), each time in a fresh process and into a new directory. Memory is read from
 * outside while the process runs.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { RestoreOnce, RestoreOnceResult } from './restore-once.ts';
import type { CoreWorkload } from './workload.ts';

/** Bound on the anonymous memory of a restore, MiB, whatever the number of records. */
export const RSS_ANON_MAX_MIB = 256;
const SAMPLE_MS = 10;

export interface RestoreFigure extends RestoreOnceResult {
  /** From the start of the process to its end. */
  readonly wallSeconds: number;
  /** Peaks, MiB; NaN where the system does not tell them apart. */
  readonly rssAnonMiB: number;
  readonly rssFileMiB: number;
}

/** One restore, checked: the number of records, the digests, the memory. */
export const measureRestore = async (
  workload: CoreWorkload,
  dir: string,
  options: { readonly verify: boolean; readonly workers?: number },
): Promise<RestoreFigure> => {
  await rm(dir, { recursive: true, force: true });
  const input: RestoreOnce = {
    archive: workload.archive,
    target: workload.target,
    dir,
    verify: options.verify,
    workers: options.workers ?? 2,
  };
  const started = performance.now();
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, 'restore-once.ts'), JSON.stringify(input)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let anon = Number.NaN;
  let file = Number.NaN;
  const timer = setInterval(() => {
    const now = residentMiB(child.pid as number);
    // the process may have just ended, and NaN compares as false
    if (!(now.anon <= anon)) anon = now.anon || anon;
    if (!(now.file <= file)) file = now.file || file;
  }, SAMPLE_MS);
  let said = '';
  child.stdout.on('data', (text) => {
    said += text;
  });
  try {
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(`the restore ended with ${code}`);
  } finally {
    clearInterval(timer);
  }
  const result = JSON.parse(said) as RestoreOnceResult;
  const wallSeconds = (performance.now() - started) / 1000;
  if (result.records !== workload.recordsAtTarget)
    throw new Error(`restored ${result.records} of ${workload.recordsAtTarget} records`);
  if (result.verification.source !== 'equal') throw new Error('not compared with the source');
  if (options.verify && result.verification.target !== 'equal')
    throw new Error('the target was not read back');
  if (anon > RSS_ANON_MAX_MIB)
    throw new Error(`RssAnon of ${anon.toFixed(0)} MiB is above ${RSS_ANON_MAX_MIB}`);
  return { ...result, wallSeconds, rssAnonMiB: anon, rssFileMiB: file };
};

const residentMiB = (pid: number): { anon: number; file: number } => {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const of = (field: string): number =>
      Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1] ?? Number.NaN) / 1024;
    return { anon: of('RssAnon'), file: of('RssFile') };
  } catch {
    // not Linux, or the process has just ended
    return { anon: Number.NaN, file: Number.NaN };
  }
};
