/** Instants between which something happened, ms: after `startMs`, up to and including `endMs`. */
export interface Window {
  readonly startMs: number;
  readonly endMs: number;
}

/** A record as the source had it when somebody looked. */
export interface FoundRecord {
  readonly namespace: string;
  /** '' for none. */
  readonly set: string;
  /** 20 bytes. */
  readonly digest: Uint8Array;
  readonly generation: number;
  /** Seconds since 1970, 0 never. */
  readonly voidTimeS: number;
  /** Last update, ms since 1970, or between which instants it lies. */
  readonly lut: number | Window;
  /** By the source's clock, ms: when it was looked at, at the latest. */
  readonly foundMs: number;
  /** What was missed before it, if anything was, came after this instant, ms. Absent: nobody knows. */
  readonly missedAfterMs?: number | undefined;
  /** So many versions were missed before it, at least. Default 0. */
  readonly missedLeast?: number | undefined;
  /**
   * What is known by a bound of its LUT is this version if it has this generation and a LUT below this instant, ms; from there on content
   * decides. Absent: the generation does.
   */
  readonly boundedBeforeMs?: number;
  /** Stored key and bins (engine/image.ts). */
  readonly image: Uint8Array;
}

/** A record that the source no longer had, or whose delete it told of. */
export interface GoneRecord {
  readonly namespace: string;
  readonly set: string;
  readonly digest: Uint8Array;
  /** When it was deleted, ms: exactly, or between the last look that found it and the one that did not. */
  readonly when: number | Window;
  /** Versions that must have been between the last one in the log and the delete. Default 0. */
  readonly missed?: number;
  /** They came after this instant, ms. Absent: nobody knows. */
  readonly missedAfterMs?: number | undefined;
  /** LUT of a version that was seen and is not in the log, ms: it was there then. */
  readonly seenMs?: number | undefined;
  /** Somebody saw it, though no version of it may be in the log: its delete is logged all the same. Default false. */
  readonly wasSeen?: boolean;
}
