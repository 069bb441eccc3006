import { resolve } from 'node:path';
import { type SpoolSettings, writeSpoolSettings } from '../wal/spool-settings.ts';
import type { PitrCommand } from './pitr-command.ts';
import type { Session } from './session.ts';

/** Adds the options that bound the log of an engine directory; they are settings, see cli/config.ts. */
export const withSpoolOptions = (command: PitrCommand): PitrCommand =>
  command
    .option('--log-quota <size>', 'log that may wait for the archive, for example 10GiB (default: 10GiB)')
    .option(
      '--log-policy <policy>',
      'at the quota: spill, block or drop-with-gap (default: spill, then block)',
    )
    .option('--spill-dir <dir>', 'second directory for log over the quota, on another file system')
    .option('--spill-quota <size>', 'log that may wait there (default: 10GiB)')
    .option(
      '--block-timeout <duration>',
      'how long a writer waits for room before it is refused (default: 1m)',
    )
    .option('--min-free <size>', 'with less left in the file system it counts as full (default: 0)');

/** Keeps in the directory what somebody has set; what nobody has set stays what it was. */
export const keepSpoolSettings = async ({ config, origins }: Session, dir: string): Promise<void> => {
  const { policy, quota, spillDir, spillQuota, blockTimeout, minFree } = config.spool;
  const isSet = (path: keyof typeof origins): boolean => origins[path] !== 'default';
  const change: Partial<SpoolSettings> = {
    ...(isSet('spool.policy') ? { policy } : {}),
    ...(isSet('spool.quota') ? { quotaBytes: quota } : {}),
    ...(isSet('spool.spillDir') ? { spillDir: spillDir === undefined ? null : resolve(spillDir) } : {}),
    ...(isSet('spool.spillQuota') ? { spillBytes: spillQuota } : {}),
    ...(isSet('spool.blockTimeout') ? { blockTimeoutMs: blockTimeout } : {}),
    ...(isSet('spool.minFree') ? { minFreeBytes: minFree } : {}),
  };
  if (Object.keys(change).length > 0) await writeSpoolSettings(dir, change);
};
