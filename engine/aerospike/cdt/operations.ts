/**
 * The list and map operations of the protocol: what op 3 (CDT_READ) and op 4 (CDT_MODIFY) do to one bin.
 *
 * The op is the wire op's value: msgpack `[subop, args…]`, or `[0xFF, [context…], [subop, args…]]`.
 */
import type { Particle } from '../../particle.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';

export interface CdtModified {
  /** What the bin holds afterwards; the very object that came in when nothing changed; `undefined`: there is no such bin. */
  readonly particle: Particle | undefined;
  /** What the client is answered; `undefined` when the operation has no result. */
  readonly result: Particle | undefined;
}

/** Op 4. `particle` is what the bin holds, `undefined` when there is no such bin. Never throws for what a peer sent. */
export const cdtModify = (_particle: Particle | undefined, _op: Uint8Array): CdtModified | Refusal =>
  new Refusal(ResultCode.unsupportedFeature, 'not there yet');

/** Op 3. `undefined`: no result (there is no such bin, or none was asked for). Never throws for what a peer sent. */
export const cdtRead = (_particle: Particle | undefined, _op: Uint8Array): Particle | undefined | Refusal =>
  new Refusal(ResultCode.unsupportedFeature, 'not there yet');
