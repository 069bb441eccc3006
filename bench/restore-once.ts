/** One restore in a process of its own, as `restore-core.ts` starts it: `restore-once.ts '{"archive":…,"dir":…}'`. */
import { enableCompileCache } from 'node:module';

export interface RestoreOnce {
  readonly archive: string;
  readonly target: string;
  readonly dir: string;
  readonly verify: boolean;
  readonly workers: number;
}

/** What the process says at its end. */
export interface RestoreOnceResult {
  readonly records: number;
  /** Of the restore, without the start of the process. */
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly verification: { readonly target: string; readonly source: string };
}

const { archive, target, dir, verify, workers } = JSON.parse(process.argv[2]) as RestoreOnce;
// as the command line does
enableCompileCache();
const { restoreEngine } = await import('../restore/restore.ts');
const started = performance.now();
const report = await restoreEngine(dir, undefined, { archive, target, verify, workers });
const { user, system } = process.cpuUsage();
const result: RestoreOnceResult = {
  records: report.records,
  seconds: (performance.now() - started) / 1000,
  cpuSeconds: (user + system) / 1e6,
  verification: report.verification,
};
process.stdout.write(`${JSON.stringify(result)}\n`);
