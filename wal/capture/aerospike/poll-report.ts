/** What a poll asked of the cluster. */
export interface PollCost {
  /** Scans, each of them one query to a node or more. */
  scans: number;
  /** Records that scans returned, and that filters rejected by their metadata. */
  returned: number;
  filtered: number;
  /** Reads by batches. */
  reads: number;
  /** Of scans and images, bytes on the wire. */
  bytes: number;
  /** At most so many reads of a device: of namespaces that have one. */
  deviceReads: number;
}

/** What a poll found. */
export interface PollFindings {
  /** Records that were changed, as far as the capture knew. */
  changed: number;
  versions: number;
  /** Of the versions: found after their time was published. */
  late: number;
  /** Of the versions: others before them were not seen. */
  missed: number;
  deleted: number;
  /** Expired records that are let go of. */
  forgotten: number;
  truncations: number;
  definitions: number;
  /** Groups, and parts of them, whose count was off. */
  countsOff: number;
  /** Partitions of which every digest was compared. */
  sweptPartitions: number;
  /** Records that cannot be logged: the name of their set is not UTF-8. */
  unrepresentable: number;
  /** Changed again while their image was read. */
  changedMeanwhile: number;
  /** Evicted, as the nodes count it. */
  evicted: number;
}

export interface PollReport extends Readonly<PollFindings> {
  /** The server's clock when it began, ms. */
  readonly serverMs: number;
  /** Whether every node said its clock in ms. */
  readonly isClockExact: boolean;
  /** Last stated, ms. */
  readonly frontierMs: number;
  readonly isStated: boolean;
  /** Why the frontier waits. */
  readonly waitsFor: readonly string[];
  /** Why everything was compared. */
  readonly doubts: readonly string[];
  /** The base copy is nothing to go on with: why it has to be made anew. */
  readonly copyAgain: string | undefined;
  /** What this cluster's build does not let the capture see. */
  readonly limits: readonly string[];
  readonly elapsedMs: number;
  readonly cost: Readonly<PollCost>;
  /** CPU of each node, percent of one core since its last answer, where it says so. */
  readonly cpuPercent: ReadonlyMap<string, number>;
}

export const noFindings = (): PollFindings => ({
  changed: 0,
  versions: 0,
  late: 0,
  missed: 0,
  deleted: 0,
  forgotten: 0,
  truncations: 0,
  definitions: 0,
  countsOff: 0,
  sweptPartitions: 0,
  unrepresentable: 0,
  changedMeanwhile: 0,
  evicted: 0,
});

export const noCost = (): PollCost => ({
  scans: 0,
  returned: 0,
  filtered: 0,
  reads: 0,
  bytes: 0,
  deviceReads: 0,
});

/** Adds what a poll found, or cost, to what others did. */
export const addTo = <T extends object>(totals: T, one: Readonly<T>): void => {
  for (const key of Object.keys(totals) as (keyof T)[])
    totals[key] = (Number(totals[key]) + Number(one[key])) as T[keyof T];
};
