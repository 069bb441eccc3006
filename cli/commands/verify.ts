import { PitrError } from '../../engine/errors.ts';
import { type Anomaly, type VerifyReport, verifyArchive } from '../../restore/verify-archive.ts';
import type { Archive } from '../../wal/archive.ts';
import { recordVerifyResult, type VerifyResult } from '../../wal/verify-results.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { openPlaces } from '../places.ts';
import { renderOrphans } from '../render/orphans.ts';
import { renderFields } from '../render/table.ts';
import { formatBytes, formatCount, formatDuration, formatIso } from '../render/units.ts';
import type { Runner, Session } from '../session.ts';
import { version } from '../version.ts';

/** Exit code when something harmful was found. */
const EXIT_DAMAGED = 43;

export const registerVerify = (program: PitrCommand, runner: Runner): void => {
  program
    .command('verify')
    .about(
      'read the whole archive and say what is wrong',
      'Reads everything that the catalog names: checksums of every block, order, counts, that each LSN is there exactly once, that runs and ' +
        'snapshots have what they name; then merges the whole state and compares it with the digest that the source stated. ' +
        'The result is kept in the archive, where pitr status shows it; without the right to write there, it says so. ' +
        `Exit code 0: nothing harmful, ${EXIT_DAMAGED}: something is missing or damaged. A gap that the catalog states is ` +
        'listed and is no damage.',
    )
    .argument('[dir...]', 'engine directories, to find the archive')
    .option('--archive <url>', 'the archive')
    .option('--orphans', 'also list what nothing names (left by crashes; harmless), and when agents sweep it')
    .option('--workers <n>', 'worker threads')
    .examples(
      ['pitr verify --archive file:/backup/db', 'check everything'],
      ['pitr verify data --orphans --json', 'for a nightly job'],
    )
    .action(runner.action(runVerify));
};

const runVerify = async (
  session: Session,
  args: string[],
  options: { orphans?: boolean },
): Promise<number> => {
  const { archive } = await openPlaces(session, args);
  const progress = session.progress();
  progress.start(100, 'verifying');
  try {
    const report = await verifyArchive(archive, {
      orphans: options.orphans ?? false,
      workers: session.config.workers,
      onProgress: (done, total) =>
        progress.update(total === 0 ? 100 : Math.floor((done * 100) / total), formatBytes(done)),
    });
    progress.stop();
    const harmful = report.anomalies.filter((a) => !a.harmless);
    const notRecorded = await record(archive, resultOf(report, session.clock.nowMs()));
    if (notRecorded !== undefined)
      session.note(`this result could not be kept in the archive: ${notRecorded}`);
    const isRecorded = notRecorded === undefined;
    // orphans have a table of their own
    const listed = report.anomalies.filter((a) => a.class !== 'orphan' && a.class !== 'foreign');
    session.emit({ ...report, ok: harmful.length === 0, recorded: isRecorded }, () =>
      [
        renderFields([
          ['archive', archive.url],
          [
            'result',
            harmful.length === 0
              ? 'nothing harmful found'
              : harmful.length === 1
                ? '1 problem'
                : `${formatCount(harmful.length)} problems`,
          ],
          [
            'read',
            `${report.segments} segments, ${formatBytes(report.bytes)}, ${formatCount(report.versions)} versions, ${report.snapshots} snapshots`,
          ],
          ...report.states.map((s): [string, string] => [
            'state',
            s.result === 'equal'
              ? `timeline ${s.timeline} at ${formatIso(s.ts)} is what the source stated`
              : s.result === 'differs'
                ? `timeline ${s.timeline} at ${formatIso(s.ts)} is NOT what the source stated`
                : `timeline ${s.timeline} not compared: ${s.why}`,
          ]),
          ['took', formatDuration(report.durationMs)],
        ]),
        ...(listed.length > 0
          ? // names are long, and what a table cuts off of them is what tells them apart
            [renderFields(listed.map((a) => [a.class, `${a.object}\n→ ${a.what}`]))]
          : []),
        ...(report.orphans ? [renderOrphans(report.orphans, session.clock.nowMs())] : []),
      ].join('\n\n'),
    );
    return harmful.length === 0 ? 0 : EXIT_DAMAGED;
  } finally {
    progress.stop();
  }
};

/** Returns why it could not be written. What was found is worth telling all the same. */
const record = async (archive: Archive, result: VerifyResult): Promise<string | undefined> => {
  try {
    await recordVerifyResult(archive, result);
    return undefined;
  } catch (error) {
    if (!(error instanceof PitrError)) throw error;
    return error.message;
  }
};

const resultOf = (report: VerifyReport, nowMs: number): VerifyResult => {
  const { segments, bytes, versions, snapshots, states, anomalies, durationMs } = report;
  const count = (result: VerifyReport['states'][number]['result']): number =>
    states.filter((s) => s.result === result).length;
  return {
    atMs: nowMs,
    durationMs: Math.round(durationMs),
    ok: anomalies.every((a) => a.harmless),
    version,
    segments,
    bytes,
    versions,
    snapshots,
    states: { equal: count('equal'), differs: count('differs'), notChecked: count('not checked') },
    anomalies: byClass(anomalies.filter((a) => !a.harmless)),
    harmless: byClass(anomalies.filter((a) => a.harmless)),
  };
};

const byClass = (anomalies: readonly Anomaly[]): Record<string, number> =>
  Object.fromEntries(
    [...Map.groupBy(anomalies, (a) => a.class)].map(([kind, found]) => [kind, found.length]),
  );
