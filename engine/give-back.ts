/**
 * Gives the memory of pieces of one buffer back now, if nothing else is in it: the garbage collector notices late that large buffers are
 * gone. Every view on it is empty afterwards, so only who has it for itself may do this.
 */
export const giveBack = (pieces: readonly Uint8Array[]): void => {
  const buffer = pieces[0]?.buffer as ArrayBuffer | undefined;
  if (buffer?.byteLength === pieces.reduce((n, piece) => n + piece.length, 0)) buffer.transfer(0);
};
