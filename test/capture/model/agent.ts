/**
 * A process that captures a cluster into one directory until it is killed: `node agent.ts JSON`. Says what it does, a JSON object a line. It
 * is what `pitr agent --source` is, without the command line, so that its life may be short.
 */
import { writeSync } from 'node:fs';
import { captureDoor } from '../../../cli/capture/capture-door.ts';
import { ClusterRun } from '../../../cli/capture/cluster-run.ts';
import { DoorServer } from '../../../engine/door.ts';
import { fullCopyEnds } from '../../../snapshot/borders.ts';
import { Archiver } from '../../../wal/archiver.ts';
import { Journal } from '../../../wal/capture/journal.ts';

export interface AgentOptions {
  readonly dir: string;
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly pollMs: number;
  readonly groups: number;
  readonly fanout: number;
}

export type Said =
  | { readonly at: 'copying'; readonly clockMs: number }
  | { readonly at: 'copyAgain'; readonly why: string }
  | { readonly at: 'baseCopy'; readonly records: number }
  | {
      readonly at: 'polled';
      readonly serverMs: number;
      readonly isStated: boolean;
      readonly late: number;
      readonly missed: number;
      readonly why: string;
    }
  | { readonly at: 'failed' | 'error' | 'gap'; readonly why: string }
  | { readonly at: 'merged' };

const say = (said: Said): void => {
  writeSync(1, `${JSON.stringify(said)}\n`);
};
const parent = process.ppid;
// whoever started it is gone
setInterval(() => process.ppid !== parent && process.exit(1), 500).unref();

const { dir, hosts, pollMs, groups, fanout } = JSON.parse(process.argv[2]) as AgentOptions;
const archiver: Archiver = await Archiver.open(dir, {
  adopt: false,
  fanout,
  sealMs: 50,
  borders: () => fullCopyEnds(archiver.archive, archiver.identity.timeline),
  onEvent: (event) => {
    if (event.kind === 'merged') say({ at: 'merged' });
    if (event.kind === 'gap') say({ at: 'gap', why: JSON.stringify(event.gap) });
    if (event.kind === 'error') say({ at: 'error', why: String(event.error) });
  },
});
const run = new ClusterRun({
  journal: await Journal.open(dir),
  archiver,
  client: { hosts },
  pollMs,
  groups,
  events: {
    copying: (clockMs) => say({ at: 'copying', clockMs }),
    copied: () => undefined,
    copyAgain: (why) => say({ at: 'copyAgain', why }),
    gap: () => say({ at: 'gap', why: 'a base copy bridges it' }),
    baseCopy: (_, records) => say({ at: 'baseCopy', records }),
    polled: ({ serverMs, isStated, late, missed, waitsFor, doubts }) =>
      say({ at: 'polled', serverMs, isStated, late, missed, why: [...waitsFor, ...doubts].join('; ') }),
    failed: (error) => say({ at: 'failed', why: String(error) }),
  },
});
await DoorServer.open(dir, captureDoor(run));
archiver.start();
await run.run();
