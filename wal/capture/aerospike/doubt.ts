import type { Look } from './look.ts';
import type { ServerTime } from './server-time.ts';

/** By how much a node's start may seem to move: both of its parts are whole seconds. */
const START_MS_MAX = 3000;
/** By how much more than before a clock may differ from ours: less than what the filter looks back. */
const STEP_MS_MAX = 2500;

/** What of a look and its clock readings is kept, also over a restart of the capture. */
export interface Seen {
  readonly clusterKeys: readonly string[];
  /** By node: when it started, by its own clock, ms. */
  readonly starts: Readonly<Record<string, number>>;
}

export const seenOf = (look: Look, time: ServerTime): Seen => ({
  clusterKeys: [...new Set([...look.nodes.values()].map(({ clusterKey }) => clusterKey))].sort(),
  starts: Object.fromEntries(
    [...look.nodes].map(([id, { uptimeS }]) => [id, (time.nodes.get(id)?.ms ?? 0) - uptimeS * 1000]),
  ),
});

/** Why what was known before has to be compared in full (README.md, section "Doubt and waiting"). */
export const doubtsOf = (before: Seen, now: Seen): string[] => {
  const doubts: string[] = [];
  const ids = Object.keys(now.starts).sort().join(', ');
  if (ids !== Object.keys(before.starts).sort().join(', ')) doubts.push(`the nodes are ${ids}`);
  if (now.clusterKeys.join() !== before.clusterKeys.join()) doubts.push('the cluster has another key');
  for (const [id, startMs] of Object.entries(now.starts)) {
    const known = before.starts[id];
    if (known !== undefined && Math.abs(startMs - known) > START_MS_MAX)
      doubts.push(`node ${id} was restarted, or its clock was set`);
  }
  return doubts;
};

/** Whether a clock was set since `before`, as ours has it. */
export const clockDoubts = (before: ServerTime, now: ServerTime): string[] => {
  const doubts: string[] = [];
  for (const [id, time] of now.nodes) {
    const known = before.nodes.get(id);
    if (!known) continue;
    const stepMs = time.ms - known.ms - (time.askedAtMs - known.askedAtMs);
    if (Math.abs(stepMs) > STEP_MS_MAX)
      doubts.push(`the clock of node ${id} was set by ${Math.round(stepMs)} ms`);
  }
  return doubts;
};

/** Why the frontier has to wait. */
export const waitsOf = (look: Look, clusterKey: string | undefined): string[] => {
  const waits = [...look.nodes].flatMap(([id, { unsettled }]) =>
    unsettled.map((what) => `${what} on node ${id}`),
  );
  if (clusterKey === undefined) waits.push('the nodes do not agree on a cluster');
  return waits;
};
