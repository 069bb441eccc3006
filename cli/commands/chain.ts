import { type Chain, type ChainTimeline, inspectChain } from '../../snapshot/chain.ts';
import { costOf } from '../cost.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { openPlaces } from '../places.ts';
import { renderCost } from '../render/cost.ts';
import { renderFields, renderTable, renderTree, type TreeNode } from '../render/table.ts';
import { formatBytes, formatCount, formatInstant, formatIso } from '../render/units.ts';
import type { Runner, Session } from '../session.ts';

export const registerChain = (program: PitrCommand, runner: Runner): void => {
  program
    .command('chain')
    .about(
      'show how snapshots, log and timelines hang together',
      'Shows for each timeline what can be restored, the streams with their runs and gaps, the marks, and for each snapshot its parent, ' +
        'what it adds, its records, bytes and log ranges, and whether everything that it needs is there.',
    )
    .argument('[dir...]', 'engine directories, to find the archive')
    .option('--archive <url>', 'the archive')
    .option('--tree', 'timelines and snapshots as a tree')
    .option('--cost', 'what it costs instead: requests and bytes a day, by what its agents asked for')
    .option('--price-put <amount>', 'of a thousand PUT, POST and LIST requests (default: 0.005)')
    .option('--price-get <amount>', 'of a thousand GET requests (default: 0.0004)')
    .option('--price-gb <amount>', 'of a GB (2^30 bytes) for a month (default: 0.023)')
    .examples(
      ['pitr chain --archive file:/backup/db', 'tables'],
      ['pitr chain --archive file:/backup/db --tree', 'who descends from whom'],
      ['pitr chain data --cost --price-put 0.0054', 'in money, and what another --seal would change'],
      ['pitr chain data --json', 'everything, for programs'],
    )
    .action(runner.action(runChain));
};

const runChain = async (
  session: Session,
  args: string[],
  options: { tree?: boolean; cost?: boolean },
): Promise<undefined> => {
  const { archive } = await openPlaces(session, args);
  const chain = await inspectChain(archive);
  if (options.cost) {
    const { prices, compact } = session.config;
    const cost = costOf(chain, { prices, nowMs: session.clock.nowMs(), fanout: compact.fanout });
    session.emit(cost, () => renderCost(cost));
    return;
  }
  session.emit(chain, () => (options.tree ? treeOf(chain) : tablesOf(chain, session.clock.nowMs())));
};

const tablesOf = (chain: Chain, nowMs: number): string =>
  [`archive ${chain.url} (${chain.archive})`, ...chain.timelines.map((t) => timelineText(t, nowMs))].join(
    '\n\n',
  );

const timelineText = (t: ChainTimeline, nowMs: number): string => {
  const origin =
    t.parent === null
      ? t.detached
        ? 'without known past'
        : 'the first'
      : `forked from ${t.parent} at ${formatIso(t.forkTs as number)}`;
  const { ranges, contiguousEnd, maxEnd, limitedBy } = t.restorable;
  const behind =
    maxEnd !== undefined && contiguousEnd !== undefined && maxEnd > contiguousEnd ? limitedBy : undefined;
  const parts = [
    renderFields([
      ['timeline', `${t.id}, ${origin}`],
      ...ranges.map((r): [string, string] => [
        'restorable',
        `${formatIso(r.fromTs)} to ${formatInstant(r.toTs, nowMs)}`,
      ]),
      ['limited by', behind],
      ...t.streams.flatMap((s) =>
        s.gaps.map((g): [string, string] => [
          'gap',
          `${s.stream} LSN ${g.lsnStart}-${g.lsnEnd - 1}: ${g.cause}`,
        ]),
      ),
    ]),
  ];
  parts.push(
    renderTable(
      [
        { title: 'stream' },
        { title: 'partitions' },
        { title: 'LSN', align: 'right' },
        { title: 'versions', align: 'right' },
        { title: 'runs' },
        { title: 'bytes', align: 'right' },
        { title: 'written', align: 'right' },
      ],
      t.streams.map((s) => [
        s.stream,
        s.partitions,
        formatCount(s.lsn),
        formatCount(s.versions),
        Object.entries(s.runsByLevel)
          .map(([level, n]) => `${n}×${level}`)
          .join(' '),
        formatBytes(s.bytes),
        s.writeAmplification === null ? '-' : `${s.writeAmplification.toFixed(1)}×`,
      ]),
    ),
  );
  if (t.snapshots.length > 0)
    parts.push(
      renderTable(
        [
          { title: 'snapshot' },
          { title: 'kind' },
          { title: 'end' },
          { title: 'adds', align: 'right' },
          { title: 'records', align: 'right' },
          { title: 'own', align: 'right' },
        ],
        t.snapshots.map((s) => [
          s.label ?? s.id,
          s.kind,
          formatIso(s.endTs).slice(5, 19).replace('T', ' '),
          formatCount(s.positions),
          formatCount(s.records),
          formatBytes(s.ownBytes),
        ]),
      ),
    );
  for (const s of t.snapshots.filter((x) => !x.usable))
    parts.push(
      `${s.label ?? s.id} is not usable: ${s.missing.length > 0 ? `${s.missing.join(', ')} is missing` : 'the archive has not reached its end'}`,
    );
  if (t.marks.length > 0)
    parts.push(
      renderTable(
        [{ title: 'mark' }, { title: 'stream' }, { title: 'LSN', align: 'right' }, { title: 'time' }],
        t.marks.map((m) => [m.name, m.stream, formatCount(m.lsn), formatIso(m.ts)]),
      ),
    );
  return parts.join('\n\n');
};

const treeOf = (chain: Chain): string => {
  const node = (t: ChainTimeline): TreeNode => {
    // a chain without branches is a list: it would else run off the page to the right
    const link = (parent: string | null): TreeNode[] =>
      t.snapshots
        .filter((s) => s.parent === parent)
        .flatMap((s) => {
          const label = `${s.kind} ${s.label ?? s.id}: +${formatCount(s.positions)}, ${formatCount(s.records)} records`;
          const next = link(s.id);
          const isChain = t.snapshots.filter((c) => c.parent === s.id).length <= 1;
          return isChain ? [{ label }, ...next] : [{ label, children: next }];
        });
    const known = new Set(t.snapshots.map((s) => s.id));
    const roots = t.snapshots
      .filter((s) => s.parent !== null && !known.has(s.parent))
      .flatMap((s) => link(s.parent));
    const end = t.restorable.contiguousEnd;
    const from = t.forkTs === null ? '' : ` from ${formatIso(t.forkTs)}`;
    return {
      label: `timeline ${t.id}${from}${t.id === chain.defaultTimeline ? ' (default)' : ''}`,
      children: [
        { label: `log to ${end === undefined ? 'nothing' : formatIso(end)}` },
        ...link(null),
        ...roots,
        ...chain.timelines.filter((c) => c.parent === t.id).map(node),
      ],
    };
  };
  return renderTree(chain.timelines.filter((t) => t.parent === null).map(node));
};
