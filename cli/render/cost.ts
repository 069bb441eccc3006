import type { Cost, StreamCost } from '../cost.ts';
import { renderFields, renderTable } from './table.ts';
import { formatBytes, formatCount, formatDuration } from './units.ts';

/** Prices are in whatever currency they were given in. */
const money = (value: number): string => (value > 0 && value < 0.005 ? '< 0.01' : value.toFixed(2));

export const renderCost = (cost: Cost): string => {
  const { prices, perMonth, storedBytes } = cost;
  const measured = cost.streams.filter((s) => s.measuredMs !== null);
  const parts = [
    `archive ${cost.url} (${cost.archive})`,
    measured.length === 0
      ? 'No agent has counted its requests for a minute yet.'
      : `What its agents asked for, as a day:\n${measuredTable(measured)}`,
    renderFields([
      ['Prices', `PUT ${prices.put} and GET ${prices.get} a thousand, ${prices.gb} a GB and month`],
      ['PUT', `${money(perMonth.puts)} a month`],
      ['GET', `${money(perMonth.gets)}`],
      ['Storage', `${money(perMonth.storage)} for ${formatBytes(storedBytes)}, as much as there is now`],
      ['Together', `${money(perMonth.total)} a month; readers, restores and traffic come besides`],
    ]),
    `A stream that always has changes, by --seal of its agent (fanout ${cost.model.fanout}):\n${modelTable(cost)}`,
  ];
  return parts.join('\n\n');
};

const measuredTable = (streams: readonly StreamCost[]): string =>
  renderTable(
    [
      { title: 'STREAM' },
      { title: 'SEAL', align: 'right' },
      { title: 'OVER', align: 'right' },
      { title: 'PUT', align: 'right' },
      { title: 'GET', align: 'right' },
      { title: 'DELETE', align: 'right' },
      { title: 'SENT', align: 'right' },
      { title: 'RECEIVED', align: 'right' },
    ],
    streams.map(({ stream, sealMs, measuredMs, perDay }) => [
      stream,
      sealMs === null ? '-' : formatDuration(sealMs),
      formatDuration(measuredMs ?? 0),
      formatCount(perDay.puts),
      formatCount(perDay.gets),
      formatCount(perDay.deletes),
      formatBytes(perDay.sentBytes),
      formatBytes(perDay.receivedBytes),
    ]),
  );

const modelTable = ({ model }: Cost): string =>
  renderTable(
    [
      { title: 'SEAL', align: 'right' },
      { title: 'LOST AT MOST', align: 'right' },
      { title: 'PUT A DAY', align: 'right' },
      { title: 'GET A DAY', align: 'right' },
      { title: 'A MONTH', align: 'right' },
    ],
    model.seals.map(({ sealMs, rpoMs, perDay, perMonth }) => [
      formatDuration(sealMs),
      formatDuration(rpoMs),
      formatCount(perDay.puts),
      formatCount(perDay.gets),
      money(perMonth.total),
    ]),
  );
