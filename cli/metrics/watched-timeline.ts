import { PitrError } from '../../engine/errors.ts';
import type { Archiver } from '../../wal/archiver.ts';
import type { EngineDir } from '../places.ts';
import { type Problem, readAwayStatus, readLocals, type Status, statusOf, usualLagMs } from '../status.ts';
import { ArchiveWatch } from './archive-watch.ts';

/** What an agent knows of one of its timelines without asking the archive. */
export interface AgentStatus {
  /** By the rule of `pitr status`. */
  readonly verdict: Status;
  /** Figures of the streams, by the heads that this agent has just published. */
  readonly figures: Status;
}

export interface WatchedOptions {
  /** Left out: as `pitr status` has it. */
  readonly maxLagMs: number | undefined;
  readonly onError: (error: PitrError) => void;
}

/**
 * The streams of one timeline that this process archives. Its own streams and directories are known as they are now; snapshots, and
 * streams that other agents archive, as of the last look into the archive.
 */
export class WatchedTimeline {
  readonly archivers: readonly Archiver[];
  readonly #dirs: readonly EngineDir[];
  readonly #lag: { readonly maxLagMs?: number };
  readonly #watch: ArchiveWatch;

  constructor(archivers: readonly Archiver[], { maxLagMs, onError }: WatchedOptions) {
    this.archivers = archivers;
    this.#dirs = archivers.map(({ dir, identity }) => ({ dir, identity }));
    this.#lag = maxLagMs === undefined ? {} : { maxLagMs };
    this.#watch = new ArchiveWatch(archivers[0]!.archive, { dirs: this.#dirs, ...this.#lag }, onError);
  }

  get id(): string {
    return this.archivers[0]!.identity.timeline;
  }

  get streams(): ReadonlySet<string> {
    return new Set(this.archivers.map((a) => a.identity.stream));
  }

  /** When the archive was last looked into, ms. */
  get lookedMs(): number | undefined {
    return this.#watch.facts?.readMs;
  }

  lookAgain(): Promise<void> {
    return this.#watch.lookAgain();
  }

  async status(nowMs: number): Promise<AgentStatus> {
    const { facts, failure } = this.#watch;
    if (!facts) {
      const away = await readAwayStatus(this.#dirs, failure ?? notLooked(this.archivers[0]!), nowMs);
      return { verdict: away, figures: away };
    }
    const options = { dirs: this.#dirs, ...this.#lag };
    const view = facts.view.withHeads(this.archivers.map((a) => a.head));
    const locals = await readLocals(view, this.#dirs);
    const figures = statusOf({ ...facts, view }, locals, options, nowMs);
    // heads of others are as old as the look: only then was it known how far they are behind
    const isShared = facts.view.timeline.streams.some(({ name }) => !this.streams.has(name));
    const judged = isShared ? statusOf(facts, locals, options, facts.readMs) : figures;
    const more = [...(failure ? [away(failure)] : []), ...(isShared ? this.#behind(judged, nowMs) : [])];
    const problems = [...more, ...judged.problems];
    const archive = { ...judged.archive, isReachable: failure === undefined };
    return { verdict: { ...judged, archive, problems, green: problems.length === 0 }, figures };
  }

  close(): void {
    this.#watch.close();
  }

  /** Own streams that are behind now, unless that was seen in the archive already. */
  #behind({ problems, streams }: Status, nowMs: number): Problem[] {
    if (problems.some((p) => p.code === 'lag')) return [];
    const maxLagMs = this.#lag.maxLagMs ?? usualLagMs(this.archivers.map((a) => a.head));
    return this.archivers.flatMap(({ identity: { stream }, head }) => {
      const lagMs = nowMs - head.frontier.ts;
      const owns = streams.some((s) => s.stream === stream && s.partitions !== 'none');
      return owns && head.frontier.ts > 0 && lagMs > maxLagMs
        ? [{ code: 'lag', lagMs, maxLagMs, stream }]
        : [];
    });
  }
}

const away = ({ id, message }: PitrError): Problem => ({ code: 'archive-away', id, message });

const notLooked = ({ archive }: Archiver): PitrError =>
  new PitrError('archive-away', {
    op: 'status',
    name: archive.id,
    url: archive.url,
    why: 'the agent is starting and has not looked yet',
  });
