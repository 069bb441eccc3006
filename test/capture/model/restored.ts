/** What a restore at an instant says: records as JSON lines, and which of them are inexact. */
import { restoreJsonLines } from '../../../restore/restore.ts';
import { planState } from '../../../snapshot/state-plan.ts';
import { ArchiveView } from '../../../snapshot/view.ts';
import type { Archive } from '../../../wal/archive.ts';
import { type Content, idOf } from './truth.ts';

export interface Reason {
  readonly by: 'chosen' | 'next' | 'truncation';
  readonly atMs: number;
  /** 0: none that is known; null: at least one. */
  readonly missed: number | null;
  /** They came later than that. */
  readonly missedAfterMs: number;
  readonly window: { readonly fromMs: number; readonly toMs: number } | undefined;
}

export interface Restored {
  readonly records: ReadonlyMap<string, Content>;
  readonly inexact: ReadonlyMap<string, readonly Reason[]>;
  readonly isSourceCompared: boolean;
}

export const restoreAt = async (archive: Archive, target: string): Promise<Restored> => {
  const lines: string[] = [];
  const named: string[] = [];
  const into = (list: string[]) => async (text: Buffer) => {
    list.push(
      ...text
        .toString('utf8')
        .split('\n')
        .filter((line) => line !== ''),
    );
  };
  const { verification } = await restoreJsonLines(into(lines), {
    archive,
    target,
    ttl: 'absolute',
    workers: 0,
    onInexact: into(named),
  });
  return {
    records: new Map(lines.map(recordOf)),
    inexact: new Map(named.map(namedOf)),
    isSourceCompared: verification.source === 'equal',
  };
};

/** Definitions in force, by what and name. */
export const definitionsAt = async (archive: Archive, ts: number): Promise<Map<string, string>> => {
  const { definitions } = await planState(await ArchiveView.read(archive), ts);
  return new Map(
    definitions.map(({ what, namespace, name, body }) => [
      `${what} ${namespace ?? ''} ${name}`,
      Buffer.from(body ?? []).toString('utf8'),
    ]),
  );
};

const ms = (iso: string): number => new Date(iso).getTime();

const recordOf = (line: string): [string, Content] => {
  const it = JSON.parse(line);
  return [
    idOf(it.namespace, it.digest),
    {
      generation: it.generation,
      lutMs: ms(it.lastUpdate),
      voidTimeS: it.expires === null ? 0 : ms(it.expires) / 1000,
      key: it.key,
      bins: Object.entries(it.bins)
        .map(([name, value]) => `${name} ${particleOf(value)}`)
        .sort(),
    },
  ];
};

const namedOf = (line: string): [string, Reason[]] => {
  const it = JSON.parse(line);
  return [
    idOf(it.namespace, it.digest),
    it.reasons.map(
      (r: {
        by: Reason['by'];
        at: string;
        missed?: number | null;
        missedAfter?: string;
        window?: { after: string; until: string };
      }) => ({
        by: r.by,
        atMs: ms(r.at),
        missedAfterMs: r.missedAfter === undefined ? 0 : ms(r.missedAfter),
        missed: r.missed === undefined ? 0 : r.missed,
        window: r.window && { fromMs: ms(r.window.after), toMs: ms(r.window.until) },
      }),
    ),
  ];
};

/** The kinds of values that the random work has, from their JSON to `type:hex`, for itself. */
const particleOf = (value: unknown): string => {
  const of = (type: number, bytes: Uint8Array): string => `${type}:${Buffer.from(bytes).toString('hex')}`;
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64BE(BigInt(value));
    return of(1, bytes);
  }
  if (typeof value === 'string') return of(3, Buffer.from(value));
  if (typeof value === 'boolean') return of(17, Uint8Array.of(value ? 1 : 0));
  if (Array.isArray(value)) return of(20, Uint8Array.of(0x90 | value.length, ...(value as number[])));
  const { $blob } = value as { $blob?: string };
  if ($blob === undefined) throw new Error(`no value of this work: ${JSON.stringify(value)}`);
  return of(4, Buffer.from($blob, 'base64'));
};
