/**
 * The `count` places with ranks from `start`, found with a heap of all places.
 *
 * Which of several equal elements is meant, and in which order a list's values are answered, follows from how the heap is built:
 * a server takes the near end of the order, and lists of values near the low end come highest first. Clients see both, so both are
 * kept: `places` are in ascending order when `ascending`, else in descending order.
 */
export interface RankSelection {
  readonly places: Uint32Array;
  readonly ascending: boolean;
}

type CompareAt = (i: number, j: number) => -1 | 0 | 1;

export const selectRanks = (
  total: number,
  start: number,
  count: number,
  compareAt: CompareAt,
): RankSelection => {
  const fromLow = start <= total - start - count;
  /** What wins the top of the heap. */
  const best = fromLow ? -1 : 1;
  const heap = new Uint32Array(total);
  for (let i = 0; i < total; i++) heap[i] = i;
  for (let i = (total >>> 1) - 1; i >= 0; i--) sift(heap, i, total, best, compareAt);
  const passed = fromLow ? start : total - start - count;
  let size = total;
  for (let i = 0; i < passed + count; i++) {
    const top = heap[0]!;
    size--;
    heap[0] = heap[size]!;
    sift(heap, 0, size, best, compareAt);
    heap[size] = top;
  }
  // What left the heap first lies last: the places that were passed over are at the end.
  return { places: heap.slice(size, size + count), ascending: !fromLow };
};

const sift = (heap: Uint32Array, from: number, size: number, best: -1 | 1, compareAt: CompareAt): void => {
  let parent = from;
  for (;;) {
    const first = 2 * parent + 1;
    if (first >= size) return;
    const second = first + 1;
    const firstWins = second >= size || compareAt(heap[first]!, heap[second]!) !== -best;
    const child = firstWins ? first : second;
    if (compareAt(heap[child]!, heap[parent]!) !== best) return;
    const moved = heap[child]!;
    heap[child] = heap[parent]!;
    heap[parent] = moved;
    parent = child;
  }
};
