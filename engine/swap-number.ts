/** Swap numbers that stay below the highest: how many swaps a reader may sleep between listing and opening. */
export const SWAP_NUMBERS_KEPT = 64;

/** The name of one value of a swappable object in a directory archive. */
export const isSwapNumber = (part: string): boolean => /^\d{12}$/.test(part);

/** Those of a swappable object's numbers, ascending, that nobody needs any more. */
export const outdatedNumbers = (numbers: readonly string[]): string[] => {
  const trimBelow = Number(numbers.at(-1) ?? 0) - SWAP_NUMBERS_KEPT;
  return numbers.filter((n) => Number(n) < trimBelow);
};
