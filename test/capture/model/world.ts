/** A cluster, those who write to it, those who capture it, and the truth. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PartitionSet } from '../../../engine/partition.ts';
import { Archive } from '../../../wal/archive.ts';
import type { WireConnection } from '../../aerospike/wire-connection.ts';
import { Rng } from '../../model/rng.ts';
import { Capture } from './capture.ts';
import { Gate } from './gate.ts';
import { NAMESPACES, Source } from './source.ts';
import { Trace } from './trace.ts';
import { type Span, Truth } from './truth.ts';
import { ownKeys, Writer } from './writer.ts';

/** Records that are there before the capture begins, and those of one writer. */
const FIRST_RECORDS = 300;
const WRITER_RECORDS = 40;
const WRITERS = 3;
/** How long before and after a hand-over nobody may have looked at what was handed over, ms. */
const MOVE_MS = 5000;
/** Cluster metadata of a real server outlive a run: names that no other has. */
const RUN = `${process.pid.toString(36)}${Date.now().toString(36).slice(-5)}`;

export interface Shape {
  readonly agents: 1 | 2;
  readonly isFiltered: boolean;
  readonly pollMs: number;
  readonly groups: number;
  readonly fanout: number;
}

export class World {
  readonly rng: Rng;
  readonly shape: Shape;
  readonly source: Source;
  readonly truth = new Truth();
  readonly gate = new Gate();
  readonly dir: string;
  readonly archive: Archive;
  readonly captures: readonly Capture[];
  readonly writers: readonly Writer[];
  /** Of those that others make work. */
  readonly idle: Writer[] = [];
  readonly setNames: readonly string[];
  /** Of the captures; null: all. */
  readonly sets: readonly string[] | null;
  /** For commands of the test itself. */
  readonly wire: WireConnection;
  readonly counts = { writes: 0, deletes: 0, official: 0, handovers: 0, marks: 0, snapshots: 0, risen: 0 };
  readonly faults = new Map<string, number>();
  /** Instants that the server's clock has shown twice, or not at all. */
  readonly folds: { readonly fromMs: number; readonly toMs: number }[] = [];
  /** When partitions were on their way from one capture to the other. */
  readonly moves: { readonly fromMs: number; toMs: number }[] = [];
  readonly marks = new Map<string, number>();
  readonly trace: Trace;
  readonly #closing: (() => unknown)[] = [];
  #isOver = false;
  #working: Promise<unknown> = Promise.resolve();

  private constructor(parts: {
    rng: Rng;
    shape: Shape;
    source: Source;
    dir: string;
    archive: Archive;
    captures: Capture[];
    wires: WireConnection[];
    setNames: string[];
    sets: string[] | null;
    trace: Trace;
  }) {
    this.rng = parts.rng;
    this.shape = parts.shape;
    this.source = parts.source;
    this.dir = parts.dir;
    this.archive = parts.archive;
    this.captures = parts.captures;
    this.setNames = parts.setNames;
    this.sets = parts.sets;
    this.trace = parts.trace;
    this.wire = parts.wires[0];
    this.writers = parts.wires.slice(1).map((wire, i) => this.#writerOf(i, wire));
  }

  #writerOf(i: number, wire: WireConnection): Writer {
    const places = NAMESPACES.flatMap((n) => this.setNames.map((s) => [n, s] as const));
    return new Writer({
      source: this.source,
      wire,
      rng: new Rng(this.rng.int(0, 2 ** 31)),
      keys: ownKeys(this.truth, places, 10_000 * i, i === 0 ? FIRST_RECORDS : WRITER_RECORDS),
      isTruncated: (record) => this.truth.isTruncated(record),
      next: () => this.truth.next(),
      count: (what) => {
        this.counts[what]++;
      },
    });
  }

  /** One with records of its own, which does nothing by itself. */
  async addWriter(): Promise<Writer> {
    const writer = this.#writerOf(this.writers.length, await this.source.connect());
    this.idle.push(writer);
    return writer;
  }

  onClose(work: () => unknown): void {
    this.#closing.push(work);
  }

  static async open(rng: Rng, shape: Shape): Promise<World> {
    const source = await Source.open();
    const dir = await mkdtemp(join(tmpdir(), 'pitr-capture-model-'));
    const url = `file:${join(dir, 'archive')}`;
    const isForeign = source.endpoint === undefined;
    const prefix = `pm${RUN}${rng.int(0, 999)}`;
    const setNames = [`${prefix}a`, `${prefix}b`, ...(isForeign ? [] : [''])];
    const sets = isForeign ? setNames : shape.isFiltered ? setNames.slice(0, 1) : null;
    const hosts = [{ host: source.host, port: source.port }];
    const parts = shape.agents === 1 ? ['0-4095'] : ['0-2047', '2048-4095'];
    const captures: Capture[] = [];
    const trace = new Trace();
    trace.say(dir);
    for (const [i, text] of parts.entries())
      captures.push(
        await Capture.init(
          {
            dir: join(dir, `capture-${i}`),
            archive: url,
            stream: `stream-${i}`,
            partitions: PartitionSet.parse(text),
            namespaces: NAMESPACES,
            sets,
            url: `aerospike://${source.host}:${source.port}`,
            hosts,
            pollMs: shape.pollMs,
            groups: shape.groups,
            fanout: shape.fanout,
          },
          (line) => trace.say(line),
          () => Date.now() + source.stepMs + 2,
        ),
      );
    const archive = await Archive.open(url);
    const wires: WireConnection[] = [];
    for (let i = 0; i < WRITERS + 2; i++) wires.push(await source.connect());
    return new World({ rng, shape, source, dir, archive, captures, wires, setNames, sets, trace });
  }

  /** Every record for the first time. */
  async fill(): Promise<void> {
    const [first] = this.writers;
    for (let i = 0; i < 1.5 * first.keys.length; i++) await first.step();
  }

  /** All write until {@link rest}. */
  work(more: readonly (() => Promise<void>)[] = []): void {
    const steps = [...this.writers.map((w) => () => w.step()), ...more];
    this.#working = Promise.all(
      steps.map(async (step) => {
        while (!this.#isOver) {
          await this.gate.enter(step);
          // the machine has others to serve as well
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
      }),
    );
  }

  async rest(): Promise<void> {
    this.#isOver = true;
    await this.#working;
  }

  tell(fault: string): void {
    this.trace.say(fault);
    this.faults.set(fault, (this.faults.get(fault) ?? 0) + 1);
  }

  /** From one look at everything to the end of the next one, where an instant lies in between. Partitions may have changed hands. */
  gapsAt = (ts: number): Span[] => {
    const gaps = this.captures.map(({ looks }) =>
      looks
        .map(({ fromMs }, i) => ({ fromMs, toMs: looks[i + 1]?.toMs ?? Number.POSITIVE_INFINITY }))
        .filter(({ fromMs, toMs }) => fromMs <= ts && ts <= toMs),
    );
    // nobody looks at what is on its way
    const onItsWay = this.moves
      .map((m) => ({ fromMs: m.fromMs - MOVE_MS, toMs: m.toMs + MOVE_MS }))
      .filter(({ fromMs, toMs }) => fromMs <= ts && ts <= toMs);
    return [...gaps.flat(), ...onItsWay];
  };

  async close(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.captures.map((c) => c.kill()));
    await this.#working.catch(() => undefined);
    for (const work of this.#closing) await work();
    await this.source.close();
    // PITR_CAPTURE_KEEP=1: for whoever looks at what is in it
    if (process.env.PITR_CAPTURE_KEEP !== '1') await rm(this.dir, { recursive: true, force: true });
  }
}
