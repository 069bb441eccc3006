import { resolve } from 'node:path';
import { PitrError } from '../engine/errors.ts';
import { type EngineIdentity, readIdentity } from '../engine/identity.ts';
import { absoluteUrl } from '../engine/open-object-store.ts';
import { Archive } from '../wal/archive.ts';
import { currentTimeline, type Timelines } from '../wal/timeline.ts';
import { withS3Settings } from './object-storage.ts';
import type { Session } from './session.ts';

/** An engine directory that a command was pointed at. */
export interface EngineDir {
  readonly dir: string;
  readonly identity: EngineIdentity;
}

/** What a command works on. */
export interface Places {
  readonly archive: Archive;
  /** Named on the command line; without any, and without an archive there, those of the configuration. */
  readonly dirs: readonly EngineDir[];
}

/** @throws not-an-engine, format-version */
export const readEngineDirs = (dirs: readonly string[]): Promise<EngineDir[]> =>
  Promise.all(dirs.map(async (dir) => ({ dir: resolve(dir), identity: await readIdentity(dir) })));

/** Directories given as arguments, else those of `--dir` and the configuration. @throws usage when there are none */
export const requireEngineDirs = async (session: Session, args: readonly string[]): Promise<EngineDir[]> => {
  const dirs = args.length > 0 ? args : session.config.dirs;
  if (dirs.length === 0)
    throw new PitrError('usage', {
      what: 'no engine directory is given',
      hint: 'name one, or set PITR_DIR or dirs in pitr.yaml',
    });
  return readEngineDirs(dirs);
};

/** The archive of `--archive`, of the directories, or of the configuration, in this order; absolute. */
export const archiveUrl = (session: Session, dirs: readonly EngineDir[], areArgs: boolean): string => {
  const { config, origins } = session;
  const ofDirs = dirs.find((d) => d.identity.archive)?.identity.archive?.url;
  const configured = config.archive;
  const url =
    areArgs && !origins.archive.startsWith('flag') ? (ofDirs ?? configured) : (configured ?? ofDirs);
  if (url !== undefined) return withS3Settings(absoluteUrl(url), config.s3);
  throw new PitrError('usage', {
    what: dirs.length > 0 ? `the engine in ${dirs[0]!.dir} has no archive` : 'no archive is given',
    hint: 'use --archive URL, name an engine directory, or set PITR_ARCHIVE or archive in pitr.yaml',
  });
};

/**
 * Opens the archive that a command means.
 * @throws usage when nothing names one; archive-not-found; archive-mismatch when a directory belongs to another archive
 */
export const openPlaces = async (session: Session, args: readonly string[]): Promise<Places> => {
  const { config, origins } = session;
  const areArgs = args.length > 0 || origins.dirs.startsWith('flag');
  // directories of the file are its defaults; who names an archive on the command line means that one alone
  const wanted = args.length > 0 ? args : areArgs || !origins.archive.startsWith('flag') ? config.dirs : [];
  const dirs = await readEngineDirs(wanted);
  const archive = await Archive.open(archiveUrl(session, dirs, areArgs), { clock: session.clock });
  for (const { dir, identity } of dirs)
    if (identity.archive?.id !== archive.id)
      throw identity.archive
        ? new PitrError('archive-mismatch', { what: dir, actual: identity.archive.id, expected: archive.id })
        : new PitrError('usage', {
            what: `the engine in ${dir} has no archive`,
            hint: 'make one with: pitr init DIR --archive URL',
          });
  return { archive, dirs };
};

/** The history that the directories write. @throws usage when they write different ones */
export const timelineOfDirs = (dirs: readonly EngineDir[]): string | undefined => {
  const other = dirs.find((d) => d.identity.timeline !== dirs[0]!.identity.timeline);
  if (other)
    throw new PitrError('usage', {
      what: `${other.dir} writes timeline ${other.identity.timeline}, ${dirs[0]!.dir} writes ${dirs[0]!.identity.timeline}`,
      hint: 'name directories of one timeline at a time',
    });
  return dirs[0]?.identity.timeline;
};

/**
 * The history that a command means: the one that is named, that of the directories, or the newest. Restoring a copy into the
 * same archive makes a newer one, so when there is a choice a person is told what was chosen. Given all timelines it chooses.
 */
export const timelineChooser = (
  session: Session,
  { dirs }: Places,
  named: string | undefined,
): ((all: Timelines) => string | undefined) => {
  const known = named ?? timelineOfDirs(dirs);
  return (all) => {
    if (known !== undefined) return known;
    const id = currentTimeline(all)?.id;
    if (all.timelines.length > 1)
      session.note(`timeline ${id}, the newest of ${all.timelines.length}; --timeline names another`);
    return id;
  };
};

/** {@link timelineChooser} for what wants an id before it reads anything. */
export const chooseTimeline = async (
  session: Session,
  places: Places,
  named: string | undefined,
): Promise<string | undefined> => {
  const choose = timelineChooser(session, places, named);
  const known = named ?? timelineOfDirs(places.dirs);
  return known ?? choose(await places.archive.timelines());
};
