/** The server counts time from the start of 2010, pitr from 1970. */
export const SERVER_EPOCH_S = 1_262_304_000;
export const SERVER_EPOCH_MS = SERVER_EPOCH_S * 1000;

/** Void time, seconds since 1970 → as it is sent. 0, never, stays 0. */
export const toWireVoidTime = (voidTimeS: number): number =>
  voidTimeS > SERVER_EPOCH_S ? voidTimeS - SERVER_EPOCH_S : voidTimeS === 0 ? 0 : 1;

/** Void time as it was sent → seconds since 1970. */
export const fromWireVoidTime = (wire: number): number => (wire === 0 ? 0 : wire + SERVER_EPOCH_S);
