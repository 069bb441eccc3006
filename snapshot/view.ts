import { PitrError } from '../engine/errors.ts';
import type { Archive } from '../wal/archive.ts';
import type { Head } from '../wal/catalog.ts';
import { ancestry, currentTimeline, type Timeline, type Timelines, timelineOf } from '../wal/timeline.ts';
import type { SnapshotEntry } from './manifest.ts';
import { type Heads, type Restorable, restorable } from './ranges.ts';
import { listSnapshots } from './snapshots.ts';

/**
 * What an archive has, read once: timelines, snapshots, and the heads of one timeline with its ancestors. Everything that is
 * planned, listed or reported is computed from a view, so that its parts agree.
 */
export class ArchiveView {
  readonly archive: Archive;
  readonly timelines: Timelines;
  readonly timeline: Timeline;
  readonly snapshots: readonly SnapshotEntry[];
  /** By timeline id, for the timeline and its ancestors. */
  readonly heads: ReadonlyMap<string, Heads>;
  readonly readMs: number;

  private constructor(
    archive: Archive,
    timelines: Timelines,
    timeline: Timeline,
    snapshots: readonly SnapshotEntry[],
    heads: ReadonlyMap<string, Heads>,
  ) {
    this.archive = archive;
    this.timelines = timelines;
    this.timeline = timeline;
    this.snapshots = snapshots;
    this.heads = heads;
    this.readMs = archive.clock.nowMs();
  }

  /**
   * `which`: the id of a timeline, or what chooses one among all of them; undefined: the current one.
   * @throws timeline-unknown
   */
  static async read(
    archive: Archive,
    which?: string | ((all: Timelines) => string | undefined),
  ): Promise<ArchiveView> {
    // heads before snapshots before timelines would miss a fork; this order may only see too little of a head
    const [timelines, snapshots] = await Promise.all([archive.timelines(), listSnapshots(archive)]);
    const timelineId = typeof which === 'function' ? which(timelines) : which;
    const timeline =
      timelineId === undefined ? currentTimeline(timelines) : timelineOf(timelines, timelineId);
    if (!timeline)
      throw new PitrError('timeline-unknown', {
        timeline: 'any',
        known: 'none: no engine was initialised on this archive',
      });
    const heads = new Map<string, Heads>();
    await Promise.all(
      ancestry(timelines, timeline.id).map(async (t) => heads.set(t.id, await archive.heads(t))),
    );
    return new ArchiveView(archive, timelines, timeline, snapshots, heads);
  }

  /** One view for each timeline, parents before children: the same archive seen from all of them. */
  static async readAll(archive: Archive): Promise<{ timelines: Timelines; views: readonly ArchiveView[] }> {
    const [timelines, snapshots] = await Promise.all([archive.timelines(), listSnapshots(archive)]);
    const heads = new Map(
      await Promise.all(timelines.timelines.map(async (t) => [t.id, await archive.heads(t)] as const)),
    );
    const views = timelines.timelines.map((timeline) => {
      const own = ancestry(timelines, timeline.id).map(({ id }) => [id, heads.get(id) as Heads] as const);
      return new ArchiveView(archive, timelines, timeline, snapshots, new Map(own));
    });
    return { timelines, views };
  }

  /** The same archive seen from another timeline. */
  of(timelineId: string): Promise<ArchiveView> {
    return ArchiveView.read(this.archive, timelineId);
  }

  /** The same with newer heads of its own timeline: an agent knows those that it publishes without reading them. */
  withHeads(newer: readonly Head[]): ArchiveView {
    const { archive, timelines, timeline, snapshots } = this;
    const own = new Map(this.heads.get(timeline.id));
    for (const head of newer) if (head.timeline === timeline.id) own.set(head.stream, head);
    const heads = new Map(this.heads).set(timeline.id, own);
    return new ArchiveView(archive, timelines, timeline, snapshots, heads);
  }

  get restorable(): Restorable {
    return restorable(this.timelines, this.timeline.id, this.heads, this.snapshots);
  }

  /** The timeline and its ancestors, newest first. */
  get ancestry(): Timeline[] {
    return ancestry(this.timelines, this.timeline.id);
  }
}
