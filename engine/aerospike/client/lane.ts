import { PitrError } from '../../errors.ts';
import { malformed } from '../malformed.ts';
import { MessageView } from '../message.ts';
import { MessageWriter } from '../message-writer.ts';
import { ProtoType } from '../proto.ts';
import type { Settings } from './client-options.ts';
import type { ClusterNode } from './cluster-node.ts';
import type { CommandRun, Transport } from './command-run.ts';
import { writeCommand } from './command-writer.ts';
import type { Connection, FrameHandler } from './connection.ts';

/** Commands that wait for their answer on one socket; a power of two. */
const IN_FLIGHT_MAX = 1024;
const IN_FLIGHT_BYTES_MAX = 4 * 1024 * 1024;
/** How often deadlines are looked at. */
const TICK_MS_MIN = 10;
const TICK_MS_MAX = 250;

/** Some commands of a run, all for this node. */
interface Job {
  readonly run: CommandRun;
  readonly indexes: readonly number[];
  /** Those before it were sent. */
  next: number;
  /** Sent or not, not settled yet. */
  open: number;
  readonly done: () => void;
}

/**
 * A socket that many commands share: what is asked for in one turn of the event loop goes out in one write, answers come in order (N5).
 * The socket is the pool's while nothing is asked.
 */
export class Lane implements FrameHandler {
  readonly #node: ClusterNode;
  readonly #settings: Settings;
  #connection: Connection | undefined;
  #isConnecting = false;
  #isScheduled = false;
  #closedBy: PitrError | undefined;
  readonly #jobs: Job[] = [];
  /** A ring of what is in flight: whose it is, which command, how many bytes. Undefined: it is not waited for any more. */
  readonly #sent: (Job | undefined)[] = new Array<Job | undefined>(IN_FLIGHT_MAX).fill(undefined);
  readonly #indexes = new Int32Array(IN_FLIGHT_MAX);
  readonly #bytes = new Int32Array(IN_FLIGHT_MAX);
  #head = 0;
  #inFlight = 0;
  #inFlightBytes = 0;
  /** When the last answer came, or the first command was sent after a pause. */
  #heardAtMs = 0;
  #stopTick: (() => void) | undefined;
  readonly #writer = new MessageWriter();
  readonly #view = new MessageView();

  constructor(node: ClusterNode, settings: Settings) {
    this.#node = node;
    this.#settings = settings;
  }

  /** How much there is to do. */
  get load(): number {
    return this.#jobs.reduce((n, job) => n + job.indexes.length - job.next, this.#inFlight);
  }

  /** Resolves when each of `indexes` is settled. */
  send(run: CommandRun, indexes: readonly number[]): Promise<void> {
    if (indexes.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#jobs.push({ run, indexes, next: 0, open: indexes.length, done: resolve });
      this.#schedule();
    });
  }

  close(error: PitrError): void {
    this.#closedBy = error;
    this.#connection?.destroy(error);
    this.#refuseJobs(error);
    this.#stopTick?.();
    this.#stopTick = undefined;
  }

  /** Once, when whoever runs now has asked for all that it wants. */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    process.nextTick(() => {
      this.#isScheduled = false;
      this.#fill();
    });
  }

  #fill(): void {
    if (this.#closedBy) {
      this.#refuseJobs(this.#closedBy);
      return;
    }
    if (this.#jobs.length === 0) return;
    if (!this.#connection) {
      if (!this.#isConnecting) void this.#connect();
      this.#tickLater();
      return;
    }
    const nowMs = this.#settings.timing.nowMs();
    if (this.#inFlight === 0) this.#heardAtMs = nowMs;
    for (let job = this.#jobs[0]; job !== undefined; job = this.#jobs[0]) {
      const timeoutMs = Math.ceil(job.run.deadlineMs - nowMs);
      if (timeoutMs <= 0) this.#expireUnsent(job);
      else if (!this.#fillFrom(job, timeoutMs)) break;
      this.#jobs.shift();
    }
    if (this.#writer.length > 0) this.#connection.write(this.#writer.take());
    this.#tickLater();
  }

  /** False: no more fits. */
  #fillFrom(job: Job, timeoutMs: number): boolean {
    const writer = this.#writer;
    while (job.next < job.indexes.length) {
      if (this.#inFlight === IN_FLIGHT_MAX || this.#inFlightBytes >= IN_FLIGHT_BYTES_MAX) return false;
      const index = job.indexes[job.next++];
      writeCommand(writer, job.run.commands[index], timeoutMs);
      const at = (this.#head + this.#inFlight++) & (IN_FLIGHT_MAX - 1);
      this.#sent[at] = job;
      this.#indexes[at] = index;
      this.#bytes[at] = writer.frameBytes;
      this.#inFlightBytes += writer.frameBytes;
    }
    return true;
  }

  async #connect(): Promise<void> {
    this.#isConnecting = true;
    try {
      const connection = await this.#node.pool.acquire(this.#settings.connectTimeoutMs);
      this.#connection = connection;
      connection.attach(this);
    } catch (error) {
      this.#refuseJobs(
        error instanceof PitrError
          ? error
          : new PitrError('internal', { what: `${error}` }, { cause: error }),
      );
    } finally {
      this.#isConnecting = false;
    }
    this.#fill();
    // nobody may have waited so long
    if (this.#connection && this.#inFlight === 0 && this.#jobs.length === 0) this.#rest();
  }

  frame(type: ProtoType, body: Buffer): void {
    if (type !== ProtoType.message) throw malformed(`a frame of type ${type} answers a command`);
    if (this.#inFlight === 0) throw malformed('an answer to no command');
    this.#view.parseWhole(body);
    this.#heardAtMs = this.#settings.timing.nowMs();
    const at = this.#head;
    const job = this.#shift();
    if (job) {
      job.run.answered(this.#indexes[at], this.#view, 0, body.length);
      settle(job, 1);
    }
    if (this.#jobs.length > 0) {
      // half of it free: not a write for each answer
      if (this.#inFlight <= IN_FLIGHT_MAX / 2) this.#schedule();
    } else if (this.#inFlight === 0) this.#rest();
  }

  #shift(): Job | undefined {
    const at = this.#head;
    const job = this.#sent[at];
    this.#sent[at] = undefined;
    this.#head = (at + 1) & (IN_FLIGHT_MAX - 1);
    this.#inFlight--;
    this.#inFlightBytes -= this.#bytes[at];
    return job;
  }

  /** The socket goes back to the pool unless more is asked in this turn. */
  #rest(): void {
    process.nextTick(() => {
      if (this.#inFlight > 0 || this.#jobs.length > 0 || !this.#connection) return;
      const connection = this.#connection;
      this.#connection = undefined;
      this.#stopTick?.();
      this.#stopTick = undefined;
      this.#node.pool.release(connection);
    });
  }

  lost(error: PitrError): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#stopTick?.();
    this.#stopTick = undefined;
    while (this.#inFlight > 0) {
      const index = this.#indexes[this.#head];
      const job = this.#shift();
      if (!job) continue;
      job.run.failed(index, error, true);
      settle(job, 1);
    }
    if (connection) this.#node.pool.release(connection);
    // what was not sent is tried on another socket; when there is none, connecting says so
    this.#schedule();
  }

  #refuseJobs(error: PitrError): void {
    for (const job of this.#jobs.splice(0)) {
      const unsent = job.indexes.length - job.next;
      while (job.next < job.indexes.length) job.run.failed(job.indexes[job.next++], error, false);
      settle(job, unsent);
    }
  }

  #expireUnsent(job: Job): void {
    const unsent = job.indexes.length - job.next;
    while (job.next < job.indexes.length) job.run.expired(job.indexes[job.next++], false, this.#node.name);
    settle(job, unsent);
  }

  #tickLater(): void {
    if (this.#stopTick || this.#inFlight + this.#jobs.length === 0) return;
    const tickMs = Math.min(TICK_MS_MAX, Math.max(TICK_MS_MIN, this.#settings.socketTimeoutMs / 8));
    this.#stopTick = this.#settings.timing.after(tickMs, () => {
      this.#stopTick = undefined;
      this.#tick();
    });
  }

  /** What is too late is not waited for; a socket that is silent for too long is given up. */
  #tick(): void {
    const { timing, socketTimeoutMs } = this.#settings;
    const nowMs = timing.nowMs();
    if (this.#inFlight > 0 && nowMs - this.#heardAtMs > socketTimeoutMs) {
      this.#connection?.destroy(
        new PitrError('aerospike-timeout', { what: 'an answer', ms: socketTimeoutMs, node: this.#node.name }),
      );
      return;
    }
    for (let n = 0; n < this.#inFlight; n++) {
      const at = (this.#head + n) & (IN_FLIGHT_MAX - 1);
      const job = this.#sent[at];
      if (!job || nowMs < job.run.deadlineMs) continue;
      this.#sent[at] = undefined;
      job.run.expired(this.#indexes[at], true, this.#node.name);
      settle(job, 1);
    }
    for (const job of this.#jobs.filter((j) => nowMs >= j.run.deadlineMs)) {
      this.#jobs.splice(this.#jobs.indexOf(job), 1);
      this.#expireUnsent(job);
    }
    this.#tickLater();
  }
}

const settle = (job: Job, settled: number): void => {
  job.open -= settled;
  if (job.open === 0) job.done();
};

/** One command after another on the lane of the node that has least to do. */
export const pipelined: Transport = (run, node, indexes) => {
  let [best] = node.lanes;
  for (const lane of node.lanes) if (lane.load < best.load) best = lane;
  if (indexes.length <= IN_FLIGHT_MAX || node.lanes.length === 1) return best.send(run, indexes);
  // many: a part for each lane
  const each = Math.ceil(indexes.length / node.lanes.length);
  return Promise.all(
    node.lanes.map((lane, n) => lane.send(run, indexes.slice(n * each, (n + 1) * each))),
  ).then(() => undefined);
};
