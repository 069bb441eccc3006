import type { LogColumns } from './log-columns.ts';

/** Bits that a double holds exactly. */
const EXACT_BITS = 53;

/**
 * Rows of `columns` in the order of a segment: (namespace, partition, digest, ts descending, LSN descending). `namespaceOf`
 * gives for each scope the ordinal of its namespace.
 *
 * Sorted as numbers that hold the key's first bits and the row: the native sort of doubles calls no comparison function. What
 * is equal in those bits, mostly versions of one record, is put in order afterwards.
 */
export const sortedRows = (columns: LogColumns, namespaceOf: Uint32Array): Uint32Array => {
  const order = new Uint32Array(columns.rows);
  const namespaces = namespaceOf.reduce((max, n) => Math.max(max, n + 1), 0);
  let done = 0;
  for (let namespace = 0; namespace < namespaces; namespace++) {
    const rows = rowsOf(columns, namespaceOf, namespace, namespaces);
    sortRows(columns, rows);
    order.set(rows, done);
    done += rows.length;
  }
  return order;
};

const rowsOf = (
  { rows, scope }: LogColumns,
  namespaceOf: Uint32Array,
  namespace: number,
  namespaces: number,
): Uint32Array => {
  const all = new Uint32Array(rows);
  let n = 0;
  for (let i = 0; i < rows; i++) if (namespaces === 1 || namespaceOf[scope[i]] === namespace) all[n++] = i;
  return all.subarray(0, n);
};

const sortRows = (columns: LogColumns, rows: Uint32Array): void => {
  const n = rows.length;
  const { keys } = columns;
  const view = new DataView(keys.buffer, keys.byteOffset, keys.length);
  const slots = 2 ** Math.ceil(Math.log2(Math.max(n, 2)));
  const dropped = 2 ** Math.max(0, 32 - (EXACT_BITS - Math.log2(slots)));
  const ranks = new Float64Array(n);
  for (let i = 0; i < n; i++) ranks[i] = Math.floor(view.getUint32(rows[i] * 20) / dropped) * slots + i;
  ranks.sort();
  const sorted = new Uint32Array(n);
  for (let from = 0; from < n; ) {
    const prefix = Math.floor(ranks[from] / slots);
    let to = from;
    while (to < n && Math.floor(ranks[to] / slots) === prefix) {
      sorted[to] = rows[ranks[to] - prefix * slots];
      to++;
    }
    if (to - from > 1) sortGroup(columns, sorted.subarray(from, to));
    from = to;
  }
  rows.set(sorted);
};

/** The rows came in log order and are wanted newest first: reversed, those of one record are in order already. */
const sortGroup = (columns: LogColumns, group: Uint32Array): void => {
  group.reverse();
  const { keys, ts, lsn } = columns;
  const compare = (a: number, b: number): number =>
    keys.compare(keys, b * 20, b * 20 + 20, a * 20, a * 20 + 20) || ts[b] - ts[a] || lsn[b] - lsn[a];
  for (let i = 1; i < group.length; i++)
    if (compare(group[i - 1], group[i]) > 0) {
      group.sort(compare);
      return;
    }
};
