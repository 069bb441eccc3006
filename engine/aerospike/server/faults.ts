import type { Clock } from '../../clock.ts';
import { ResultCode } from '../result-code.ts';
import { Graveyard } from './graveyard.ts';

/**
 * What a test has the server do wrong, or seldom. Nothing of it happens unless {@link Faults} are given to the server or
 * asked for by the info command that only such a server knows.
 */
export class Faults {
  /** Partitions that answer "unavailable" (11). */
  readonly unavailable = new Set<number>();
  /** As many records of the next scans are left out and counted as failed. */
  failedRecords = 0;
  /** As many of the next commands are refused with {@link burstCode}. */
  burst = 0;
  burstCode: number = ResultCode.deviceOverload;
  /** Partitions that each node says it has to send. */
  migrating = 0;
  /** The server's clock is ahead by this, ms; negative: behind. */
  clockStepMs = 0;
  /** Bytes of an answer after which a connection breaks; 0: never. */
  dropAfterBytes = 0;
  /** Bytes that are sent every {@link trickleMs}; 0: all at once. */
  trickleBytes = 0;
  trickleMs = 10;
  /** Bytes of one chunk of a scan; 0: as usual. */
  chunkBytes = 0;
  /** Removed records come back at the next restart. */
  graveyard: Graveyard | undefined;
  /** Generation that the next written record gets; 0: the one that follows. */
  generation = 0;

  /** A clock that is wrong by {@link clockStepMs}: for the engine and its server. */
  clockOf(clock: Clock): Clock {
    return { nowMs: () => clock.nowMs() + this.clockStepMs };
  }

  /** Whether removed records are kept for {@link graveyard}. */
  set resurrects(isOn: boolean) {
    this.graveyard = isOn ? new Graveyard() : undefined;
  }

  /** Code that a command on a record of this partition is refused with; 0: none. */
  refusal(partition: number): number {
    if (this.unavailable.has(partition)) return ResultCode.partitionUnavailable;
    if (this.burst === 0) return 0;
    this.burst--;
    return this.burstCode;
  }

  /** Undefined: the usual one. */
  takeGeneration(): number | undefined {
    const { generation } = this;
    this.generation = 0;
    return generation === 0 ? undefined : generation;
  }

  takeFailedRecord(): boolean {
    if (this.failedRecords === 0) return false;
    this.failedRecords--;
    return true;
  }
}
