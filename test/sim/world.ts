/** What a run consists of: machines, processes, the archive, the judge, and what all actors may ask of them. */

import type { Clock } from '../../engine/clock.ts';
import { type ErrorId, PitrError } from '../../engine/errors.ts';
import { newIdentity, writeIdentity } from '../../engine/identity.ts';
import type { Machine } from '../../engine/machine.ts';
import { PartitionSet } from '../../engine/partition.ts';
import type { SweepRule } from '../../snapshot/orphan-table.ts';
import { Archive } from '../../wal/archive.ts';
import { withEngine } from '../../wal/timeline.ts';
import { Rng } from '../model/rng.ts';
import { Bucket, type BucketMutant } from './bucket.ts';
import { CatalogWatch } from './catalog-watch.ts';
import { Disk, type DiskMutant } from './disk.ts';
import { History } from './history.ts';
import { type S3Mutant, S3Network } from './s3-network.ts';
import { isInjected, Process, Scheduler, Violation } from './scheduler.ts';
import type { Service } from './service.ts';
import { emptyStore, SimStore } from './store.ts';

export type Mutant = DiskMutant & BucketMutant & S3Mutant & { readonly service?: Service['kind'] };

/** Of the seeds, how many have their archive on S3. */
const S3_SHARE = 0.35;

/** A machine: a disk, a clock, and power. */
export interface Host {
  readonly name: string;
  readonly disk: Disk;
  readonly clock: { skewMs: number };
  readonly processes: Set<Process>;
  /** Processes elsewhere that work in its directories. */
  readonly guests: Set<Process>;
}

/** One engine: its directory is on its host, its records are those of its partitions. */
export interface Node {
  readonly stream: string;
  readonly dir: string;
  readonly host: Host;
  readonly partitions: PartitionSet;
}

/** How a damaged answer is refused. */
const CORRUPT: ReadonlySet<string> = new Set<ErrorId>(['object-corrupt', 'format-version', 'log-corrupt']);

/** What is said of an archive that cannot be reached. */
const AWAY: ReadonlySet<string> = new Set<ErrorId>(['archive-away', 'archive-throttled']);

const START_MS = 1_750_000_000_000;

export class World {
  readonly rng: Rng;
  readonly scheduler: Scheduler;
  readonly bucket: Service;
  readonly history = new History();
  readonly watch: CatalogWatch;
  readonly nodes: Node[] = [];
  readonly hosts: Host[] = [];
  readonly fanout: number;
  readonly retireMs: number;
  /** When what nobody names goes. */
  readonly sweepRule: SweepRule;
  readonly writers: number;
  /** How often a writer rests between two operations, and for how long at most. */
  readonly rest: { readonly chance: number; readonly msMax: number };
  /** Faults have ended; who can comes to an end. */
  stopping = false;
  /** What happened, so that a test can say that it did. */
  snapshots = 0;
  merges = 0;
  fenced = 0;
  deletions = 0;
  swept = 0;
  readonly #mutant: Mutant;
  readonly #seed: number;
  #forks = 0;

  constructor(seed: number, mutant: Mutant, echo: boolean) {
    this.#seed = seed;
    this.#mutant = mutant;
    this.rng = new Rng(seed);
    this.scheduler = new Scheduler(this.rng, START_MS, echo);
    const isS3 = this.rng.chance(S3_SHARE);
    const fail = (error: unknown): void => this.scheduler.fail(error);
    this.bucket =
      (mutant.service ?? (isS3 ? 's3' : 'plain')) === 's3'
        ? new S3Network(this.rng, mutant, fail)
        : new Bucket(this.rng, this.rng.chance(0.5), mutant);
    this.watch = new CatalogWatch(this.bucket, this.history, fail);
    this.fanout = this.rng.int(2, 4);
    this.retireMs = this.rng.pick([20, 300, 20_000]);
    this.sweepRule = { marginMs: this.rng.pick([50, 1_000]), everyMs: 50 };
    this.writers = this.rng.int(1, 3);
    // busy writers leave few steps to those who talk to the archive
    this.rest = this.rng.pick(
      this.bucket.kind === 's3'
        ? [{ chance: 0.9, msMax: 600 }]
        : [
            { chance: 0.5, msMax: 120 },
            { chance: 0.5, msMax: 120 },
            { chance: 0.9, msMax: 600 },
          ],
    );
  }

  /** Random numbers of one actor: what it does next does not depend on who runs before it. */
  fork(): Rng {
    return new Rng(this.#seed * 1000 + this.#forks++);
  }

  addHost(name: string): Host {
    const host = {
      name,
      disk: new Disk(this.rng, this.#mutant),
      clock: { skewMs: 0 },
      processes: new Set<Process>(),
      guests: new Set<Process>(),
    };
    this.hosts.push(host);
    return host;
  }

  process(host: Host, name: string): Process {
    const process = new Process(this.scheduler, name, host.clock);
    host.processes.add(process);
    return process;
  }

  hostOf(process: Process): Host {
    return this.hosts.find((h) => h.processes.has(process)) as Host;
  }

  clockOf(process: Process): Clock {
    return { nowMs: () => process.nowMs() };
  }

  machineOf(process: Process, { disk }: Host, scope?: (path: string) => string): Required<Machine> {
    return {
      files: disk.filesOf(process),
      locks: disk.locksOf(process, scope),
      openStore: (dir) => {
        let image = disk.stores.get(dir);
        if (!image) {
          image = emptyStore();
          disk.stores.set(dir, image);
        }
        return new SimStore(dir, process, image, disk.mutant.flushLies ?? false);
      },
    };
  }

  /** Makes the archive and the engine directories, without faults. */
  async init(engines: number): Promise<void> {
    const archive = await Archive.openOrCreate(this.bucket.direct());
    let timeline: string | undefined;
    for (let i = 0; i < engines; i++) {
      const host = this.addHost(`host${i}`);
      const process = this.process(host, `init${i}`);
      const stream = `s${i}`;
      const step = 4096 / engines;
      const partitions = PartitionSet.parse(`${i * step}-${(i + 1) * step - 1}`);
      const fromTs = process.nowMs();
      const identity = newIdentity(
        {
          stream,
          shards: 4,
          partitions: partitions.toString(),
          ...(timeline === undefined ? {} : { timeline }),
          archive: { url: this.bucket.direct().url, id: archive.id },
        },
        fromTs,
      );
      timeline = identity.timeline;
      const dir = `/${stream}`;
      await writeIdentity(dir, identity, host.disk.filesOf(process));
      await archive.updateTimelines((all) => withEngine(all, identity, fromTs));
      this.nodes.push({ stream, dir, host, partitions });
      this.history.addStream(stream, fromTs);
    }
  }

  /**
   * Accepts an error that faults explain: one that the simulation made or that follows from one; anything else is a finding.
   * `ids`: what may also be, without a fault. `troubles`: of the process, when it began what has failed.
   */
  tolerate(error: unknown, process: Process, ids: readonly ErrorId[], troubles: number): void {
    if (error instanceof Violation) throw error;
    const id = error instanceof PitrError ? error.id : undefined;
    this.scheduler.note(`${process.name}: ${id ?? error}`);
    const { kind, tries } = this.bucket;
    const had = process.troubles - troubles;
    const isExplained = ((): boolean => {
      if (id !== undefined && ids.includes(id)) return true;
      // who asks a real server tries again before it gives up
      if (id !== undefined && AWAY.has(id)) return had >= tries;
      if (id !== undefined && CORRUPT.has(id) && process.damaged > 0) return true;
      // an answer to a deletion of which a bit flipped in a name: the server has said nothing of that object
      if (id === 'io' && kind === 's3' && process.damaged > 0) return true;
      // a request that arrived twice: the first one made the object, and a plain store cannot tell
      if (id === 'object-exists' && kind === 'plain') return this.scheduler.faults.has('twice');
      return isInjected(error);
    })();
    if (!isExplained)
      throw new Violation(
        `${process.name}: ${id ?? ''} after ${had} troubles: ${(error as Error)?.stack ?? error}`,
        { cause: error },
      );
  }

  kill(host: Host, process: Process): void {
    host.processes.delete(process);
    for (const h of this.hosts) h.guests.delete(process);
    this.scheduler.kill(process);
  }

  powerCut(host: Host): void {
    this.scheduler.note(`power cut of ${host.name}`);
    for (const process of [...host.processes, ...host.guests]) this.kill(this.hostOf(process), process);
    host.disk.powerCut();
  }
}
