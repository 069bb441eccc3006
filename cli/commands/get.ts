import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { EngineRecord } from '../../engine/engine-record.ts';
import { PitrError } from '../../engine/errors.ts';
import { readIdentity } from '../../engine/identity.ts';
import { type RecordKey, resolveKey } from '../../engine/record-key.ts';
import { isExpired, state } from '../../engine/state-record.ts';
import { STORE_DIR, Store } from '../../engine/store.ts';
import type { InexactData } from '../../restore/inexact-line.ts';
import { readWithDoubts } from '../../restore/read-at.ts';
import { resolveTarget } from '../../restore/target.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { openPlaces, timelineChooser } from '../places.ts';
import { parseRecordAddress } from '../record-address.ts';
import { recordData, renderRecord } from '../render/record.ts';
import { formatInstant } from '../render/units.ts';
import type { Runner, Session } from '../session.ts';

interface GetFlags {
  readonly dir?: readonly string[];
  readonly archive?: string;
  readonly at?: string;
  readonly timeline?: string;
}

/** Where a record was read, and of when it is. */
interface Found {
  readonly record: EngineRecord | undefined;
  readonly source: Record<string, string | number | InexactData['reasons']>;
  /** The same for a person. */
  readonly asOf: string;
}

export function registerGet(program: PitrCommand, runner: Runner): void {
  program
    .command('get')
    .about(
      'show one record, now or as it was',
      'Shows one record. From an engine directory: the state that its store has applied, read without disturbing a live ' +
        'writer, whose newest writes may still be on their way there. With --at: the record as it was at that instant, ' +
        'read straight from the archive; nothing is restored.',
    )
    .argument('<key>', 'NS/SET/KEY; NS//KEY without a set; see below')
    .option('--dir <dirs...>', 'engine directory to read from, or whose archive to read')
    .option('--archive <url>', 'archive to read from')
    .option('--at <target>', 'the instant: a time, -10m, mark:NAME, lsn:STREAM/N or latest')
    .option('--timeline <id>', 'history to look in (default: the newest, or that of --dir)')
    .addHelpText(
      'after',
      '\nKeys: an integer when it looks like one. str:42, int:42, hex:c0ffee (bytes)\n' +
        'and digest:… (40 hex digits) in the place of KEY say what it is.',
    )
    .examples(
      ['pitr get shop/users/42 --dir data', 'what the store has now'],
      ['pitr get shop/users/42 --archive file:/backup/db --at -1h', 'what it was an hour ago'],
      ['pitr get shop/users/str:42 --dir data --at mark:before-deploy', 'a string key, at a mark'],
    )
    .action(
      runner.action(async (session, address: string, flags: GetFlags) => {
        const key = parseRecordAddress(address);
        const isNow = flags.at === undefined && flags.archive === undefined && session.config.dirs.length > 0;
        const found = isNow ? await inStore(session, key) : await inArchive(session, key, flags);
        if (!found.record)
          throw new PitrError('record-not-found', { key: `${resolveKey(key).text}, as of ${found.asOf}` });
        const record = recordData(found.record);
        session.emit({ source: found.source, record }, () =>
          renderRecord(record, found.asOf, session.clock.nowMs()),
        );
        return 0;
      }),
    );
}

const inStore = async (session: Session, key: RecordKey): Promise<Found> => {
  const { dirs } = session.config;
  const dir = dirs[0]!;
  if (dirs.length > 1)
    throw new PitrError('usage', { what: 'get reads one engine directory', hint: 'name one --dir' });
  await readIdentity(dir);
  const { storeKey } = resolveKey(key);
  const nowMs = session.clock.nowMs();
  const nothing = {
    record: undefined,
    source: { dir: resolve(dir) },
    asOf: 'now; nothing was ever written there',
  };
  // an engine that was never opened has no store yet, and reading must not make one
  if (!existsSync(join(dir, STORE_DIR, 'data.mdb'))) return nothing;
  const store = Store.open(dir, { readOnly: true });
  try {
    const meta = store.meta();
    if (!meta) return nothing;
    const value = store.get(storeKey);
    const record =
      value && !isExpired(state.voidTime(value), nowMs)
        ? EngineRecord.ofStore(storeKey, Buffer.from(value))
        : undefined;
    const { appliedLsn, lastTs } = meta;
    const asOf = `now, as far as the store has applied: LSN ${appliedLsn}, ${formatInstant(lastTs, nowMs)}`;
    return { record, source: { dir: resolve(dir), appliedLsn, lastTs }, asOf };
  } finally {
    await store.close();
  }
};

const inArchive = async (session: Session, key: RecordKey, flags: GetFlags): Promise<Found> => {
  if (session.config.dirs.length === 0 && session.config.archive === undefined)
    throw new PitrError('usage', {
      what: 'get needs to know where to read',
      hint: 'use --dir DIR for the present, --archive URL --at TARGET for the past',
    });
  const places = await openPlaces(session, []);
  const { archive } = places;
  const view = await ArchiveView.read(archive, timelineChooser(session, places, flags.timeline));
  const nowMs = session.clock.nowMs();
  const { ts, rounded, alsoOn } = await resolveTarget(view, flags.at ?? 'latest', nowMs);
  if (alsoOn.length > 0)
    session.note(`timeline ${alsoOn.join(', ')} has ${flags.at} too, in another state; --timeline names it`);
  const { record, inexact } = await readWithDoubts(view, key, ts);
  const timeline = view.timeline.id;
  const doubts = inexact ? `; not certain: ${inexact.reasons.map(doubtInWords).join(', ')}` : '';
  return {
    record,
    source: {
      archive: archive.url,
      timeline,
      ts,
      ...(rounded === undefined ? {} : { rounded }),
      ...(inexact ? { inexact: inexact.reasons } : {}),
    },
    asOf: `${formatInstant(ts, nowMs)}${rounded === undefined ? '' : `; ${rounded}`}${doubts}`,
  };
};

/** `a truncation in (10:00:00, 10:00:07]`, `2 versions missed before 10:00:09`. */
const doubtInWords = ({ by, at, missed, missedAfter, window }: InexactData['reasons'][number]): string => {
  const what = {
    chosen: 'this version came',
    next: 'the next version came',
    truncation: 'a truncation came',
  }[by];
  const came = window ? [`${what} after ${window.after} and by ${window.until}`] : [];
  const unseen =
    missed === undefined
      ? []
      : [
          `${missed === null ? 'some' : missed} unseen version${missed === 1 ? '' : 's'} ${missedAfter === undefined ? '' : `after ${missedAfter} and `}before ${at}`,
        ];
  return [...came, ...unseen].join(', ');
};
