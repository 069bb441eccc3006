/**
 * The one thing that decides what happens next. Every call of a simulated process to its disk, its store, the archive or a timer
 * waits here; the scheduler takes one of them by its random numbers, lets it have its effect (or fail before it, after it, late,
 * twice, in part), waits until nothing moves any more, and takes the next. So a run is a function of its seed.
 */
import { createHash } from 'node:crypto';
import type { Rng } from '../model/rng.ts';
import { quiescent, type Runtime, runIn } from './runtime.ts';

/** What the simulation found to be wrong with the product. */
export class Violation extends Error {}

/**
 * Ways in which a call can go. `late`: it fails, and has its effect when nobody expects it any more. `dropped`: a sync fails, and
 * the system forgets that there was anything to sync. `throttled`: refused, without effect. `cut`: a part of the answer arrives.
 * `asleep`: it has its effect, and its process sleeps, for hours perhaps, before it hears of it. `crashed`: its process dies; the
 * call is lost, has its effect, or has it late.
 */
export type Fault =
  | 'before'
  | 'after'
  | 'late'
  | 'twice'
  | 'again'
  | 'torn'
  | 'dropped'
  | 'damaged'
  | 'throttled'
  | 'cut'
  | 'asleep'
  | 'crashed';

const FAILING: ReadonlySet<Fault> = new Set(['before', 'after', 'late', 'torn', 'dropped', 'throttled']);

/** Probabilities that something happens to a call: to this machine, and to the archive. */
export interface Weather {
  readonly local: number;
  readonly errors: number;
  readonly throttled: number;
  readonly damaged: number;
  readonly asleep: number;
  readonly crashed: number;
}

export const CALM: Weather = { local: 0, errors: 0, throttled: 0, damaged: 0, asleep: 0, crashed: 0 };

/** How long a process sleeps, ms. */
const NAPS_MS = [50, 1_000, 5_000, 5_000, 3 * 3_600_000];

export interface CallOptions<T> {
  /** Faults that make sense for this call. */
  readonly faults?: readonly Fault[];
  readonly error?: (fault: Fault) => Error;
  /** An answer that says that it failed, in place of an error. */
  readonly refusal?: (fault: Fault) => T | undefined;
  /** A part of the effect. */
  readonly tear?: () => void;
  readonly drop?: () => void;
  readonly damage?: (value: T) => T;
  /** What may become of the call when its process is killed meanwhile: it may reach a server later. Default: now or never. */
  readonly remote?: boolean;
}

interface Call {
  readonly process: Process | undefined;
  readonly label: string;
  run(fault: Fault | undefined): void;
  /** Its effect and nothing else. */
  effect(): void;
  tear(): void;
  readonly faults: readonly Fault[];
  readonly remote: boolean;
  /** It goes on while its process sleeps. */
  readonly isSent: boolean;
}

interface Timer {
  readonly process: Process;
  readonly run: () => void;
  readonly repeatMs: number | undefined;
  readonly number: number;
  dueMs: number;
}

const injected = new WeakSet<Error>();

/** True when `error`, or what caused it, is one that the simulation made. */
export const isInjected = (error: unknown): boolean => {
  for (let at = error; at instanceof Error; at = at.cause) if (injected.has(at)) return true;
  return false;
};

/** A simulated process: alive until it is killed; then its calls never return. */
export class Process implements Runtime {
  readonly name: string;
  /** Added to the scheduler's time: the machine's clock. */
  readonly clock: { skewMs: number };
  readonly #scheduler: Scheduler;
  alive = true;
  /** Answers that it got with flipped bits. */
  damaged = 0;
  /** Requests to the archive to which something happened, and times that it slept. */
  troubles = 0;
  #pausedUntilMs = 0;

  constructor(scheduler: Scheduler, name: string, clock: { skewMs: number }) {
    this.#scheduler = scheduler;
    this.name = name;
    this.clock = clock;
  }

  /** Starts an actor: a failure of it that is not expected ends the run. */
  start(main: () => Promise<void>): void {
    runIn(this, () => {
      main().catch((error) => this.#scheduler.fail(error));
    });
  }

  get pausedUntilMs(): number {
    return this.#pausedUntilMs;
  }

  pause(untilMs: number): void {
    this.#pausedUntilMs = Math.max(untilMs, this.#pausedUntilMs);
    this.troubles++;
  }

  nowMs(): number {
    return this.#scheduler.nowMs + this.clock.skewMs;
  }

  monotonicMs(): number {
    return this.#scheduler.nowMs;
  }

  randomBytes(bytes: number): Buffer {
    return this.#scheduler.randomBytes(bytes);
  }

  timer(run: () => void, ms: number, repeat: boolean): object {
    return this.#scheduler.addTimer(this, run, ms, repeat);
  }

  clearTimer(timer: unknown): boolean {
    return this.#scheduler.clearTimer(timer);
  }

  call<T>(label: string, effect: (fault?: Fault) => T, options: CallOptions<T> = {}): Promise<T> {
    return this.#scheduler.call(this, label, effect, options);
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.timer(resolve, ms, false);
    });
  }
}

const LINES_MAX = 400;

export class Scheduler {
  readonly rng: Rng;
  /** Called before each step: kills, pauses, clock steps. */
  chaos: () => void = () => undefined;
  /** Decides on faults in place of the random numbers. */
  decide: ((label: string) => Fault | undefined) | undefined;
  /** Called when nobody has anything to do; false: nothing can be done about it. */
  idle: () => boolean = () => false;
  weather: Weather = CALM;
  /** Ends a process. */
  crash: (process: Process) => void = (process) => this.kill(process);
  nowMs: number;
  steps = 0;
  /** How often each fault was tried. */
  readonly faults = new Map<Fault, number>();
  /** Most calls that waited at once. */
  waitingMax = 0;
  readonly lines: string[] = [];
  readonly #hash = createHash('sha256');
  readonly #echo: boolean;
  #calls: Call[] = [];
  #timers: Timer[] = [];
  #timerNumber = 0;
  #failure: unknown;

  constructor(rng: Rng, startMs: number, echo = false) {
    this.rng = rng;
    this.nowMs = startMs;
    this.#echo = echo;
  }

  /** Hash of all decisions so far. */
  get trace(): string {
    return this.#hash.copy().digest('hex').slice(0, 16);
  }

  /** Nothing is on its way that nobody waits for. */
  get isSettled(): boolean {
    return this.#calls.every((c) => c.process !== undefined);
  }

  note(line: string): void {
    const text = `${this.steps} +${this.nowMs % 1_000_000} ${line}`;
    this.#hash.update(`${text}\n`);
    this.lines.push(text);
    if (this.lines.length > LINES_MAX) this.lines.shift();
    if (this.#echo) console.error(text);
  }

  fail(error: unknown): void {
    this.#failure ??= error;
  }

  randomBytes(bytes: number): Buffer {
    return Buffer.from(Array.from({ length: bytes }, () => this.rng.int(0, 255)));
  }

  call<T>(
    process: Process,
    label: string,
    effect: (fault?: Fault) => T,
    options: CallOptions<T>,
  ): Promise<T> {
    if (!process.alive) return new Promise(() => undefined);
    const remote = options.remote ?? false;
    return new Promise<T>((resolve, reject) => {
      const fail = (fault: Fault): void => {
        const answer = options.refusal?.(fault);
        if (answer !== undefined) {
          resolve(answer);
          return;
        }
        const error = options.error?.(fault) ?? Object.assign(new Error(`EIO: ${label}`), { code: 'EIO' });
        injected.add(error);
        reject(error);
      };
      const attempt = (): void => {
        try {
          effect();
        } catch {
          // nobody hears the answer
        }
      };
      const tear = (): void => (options.tear ?? (() => undefined))();
      const run = (fault: Fault | undefined): void => {
        if (fault === 'torn') tear();
        if (fault === 'dropped') options.drop?.();
        if (fault === 'after' || fault === 'twice') attempt();
        if (fault === 'late' || fault === 'again') this.#later(label, attempt);
        if (fault !== undefined && remote) process.troubles++;
        if (fault === 'asleep') this.nap(process, this.rng.pick(NAPS_MS));
        if (fault !== undefined && FAILING.has(fault)) {
          this.#tell(process, label, () => fail(fault));
          return;
        }
        try {
          const value = effect(fault);
          if (fault === 'damaged') process.damaged++;
          const told = fault === 'damaged' && options.damage ? options.damage(value) : value;
          this.#tell(process, label, () => resolve(told));
        } catch (error) {
          this.#tell(process, label, () => reject(error));
        }
      };
      this.#calls.push({
        process,
        label,
        run,
        effect: attempt,
        tear,
        faults: options.faults ?? [],
        remote,
        isSent: remote && this.rng.chance(0.5),
      });
    });
  }

  nap(process: Process, ms: number): void {
    process.pause(this.nowMs + ms);
    this.note(`${process.name} sleeps for ${ms} ms`);
  }

  /** At once, or when it wakes up. */
  #tell(process: Process, label: string, tell: () => void): void {
    if (process.pausedUntilMs <= this.nowMs) tell();
    else this.#push(process, `answer to ${label}`, tell, () => undefined);
  }

  #later(label: string, effect: () => void): void {
    this.#push(undefined, `late ${label}`, effect, effect);
  }

  #push(process: Process | undefined, label: string, run: () => void, effect: () => void): void {
    const tear = (): void => undefined;
    this.#calls.push({ process, label, run, effect, tear, faults: [], remote: true, isSent: false });
  }

  addTimer(process: Process, run: () => void, ms: number, repeat: boolean): object {
    const timer = {
      process,
      run,
      repeatMs: repeat ? Math.max(1, ms) : undefined,
      number: this.#timerNumber++,
      dueMs: this.nowMs + Math.max(0, Math.ceil(ms)),
      unref: () => timer,
      ref: () => timer,
      hasRef: () => true,
    };
    if (process.alive) this.#timers.push(timer);
    return timer;
  }

  clearTimer(timer: unknown): boolean {
    const at = this.#timers.indexOf(timer as Timer);
    if (at >= 0) this.#timers.splice(at, 1);
    return at >= 0 || (typeof timer === 'object' && timer !== null && 'dueMs' in timer);
  }

  /** Ends a process between any two steps. Of its calls that were under way each may or may not have come through. */
  kill(process: Process): void {
    if (!process.alive) return;
    process.alive = false;
    this.#timers = this.#timers.filter((t) => t.process !== process);
    const mine = this.#calls.filter((c) => c.process === process);
    this.#calls = this.#calls.filter((c) => c.process !== process);
    for (const call of mine) {
      const fate = this.rng.int(0, 2);
      this.note(`kill ${process.name}: ${call.label} ${['lost', 'done', 'torn or late'][fate]}`);
      if (fate === 1) call.effect();
      else if (fate === 2 && call.remote) this.#later(call.label, call.effect);
      else if (fate === 2) call.tear();
    }
  }

  /** Steps until `done`. @throws Violation when that takes more than `stepsMax` steps, and what an actor failed with */
  async run(done: () => boolean, stepsMax: number): Promise<void> {
    const last = this.steps + stepsMax;
    for (;;) {
      await quiescent();
      if (this.#failure) throw this.#failure;
      if (done()) return;
      if (this.steps >= last) throw new Violation(`it does not come to an end within ${stepsMax} steps`);
      this.#step();
    }
  }

  #step(): void {
    this.steps++;
    this.nowMs += this.rng.int(0, 2);
    this.chaos();
    this.waitingMax = Math.max(this.waitingMax, this.#calls.length);
    const isReady = ({ process, isSent }: { process: Process | undefined; isSent?: boolean }): boolean =>
      process === undefined || isSent === true || process.pausedUntilMs <= this.nowMs;
    let calls = this.#calls.filter(isReady);
    let timers = this.#timers.filter((t) => t.dueMs <= this.nowMs && isReady(t));
    if (calls.length + timers.length === 0) {
      const nextMs = Math.min(
        ...this.#timers.map((t) => Math.max(t.dueMs, t.process.pausedUntilMs)),
        ...this.#calls.map((c) => c.process?.pausedUntilMs ?? 0),
      );
      // everybody is dead, or waits for nothing
      if (!Number.isFinite(nextMs) && !this.idle()) throw new Violation('everybody waits for nothing');
      this.nowMs = Number.isFinite(nextMs) ? nextMs : this.nowMs;
      calls = this.#calls.filter(isReady);
      timers = this.#timers.filter((t) => t.dueMs <= this.nowMs && isReady(t));
      // whoever was started now has not asked for anything yet
      if (calls.length + timers.length === 0) return;
    }
    const pick = this.rng.int(0, calls.length + timers.length - 1);
    if (pick < calls.length) this.#runCall(calls[pick]);
    else this.#runTimer(timers[pick - calls.length]);
  }

  #runCall(call: Call): void {
    this.#calls.splice(this.#calls.indexOf(call), 1);
    const fault = this.decide ? this.decide(call.label) : this.#faultOf(call);
    if (fault) this.faults.set(fault, (this.faults.get(fault) ?? 0) + 1);
    this.note(`${call.process?.name ?? 'nobody'}: ${call.label}${fault ? ` ! ${fault}` : ''}`);
    if (fault !== 'crashed') {
      call.run(fault);
      return;
    }
    this.#calls.push(call);
    if (call.process) this.crash(call.process);
  }

  #faultOf({ faults, remote }: Call): Fault | undefined {
    const { local, errors, throttled, damaged, asleep, crashed } = this.weather;
    if (faults.length === 0) return undefined;
    if (!remote) return this.rng.chance(local) ? this.rng.pick(faults) : undefined;
    const at = this.rng.next();
    let below = errors;
    if (at < below) return this.rng.pick(faults.filter((f) => f !== 'damaged'));
    below += throttled;
    if (at < below) return 'throttled';
    below += damaged;
    if (at < below) return faults.includes('damaged') ? 'damaged' : undefined;
    below += asleep;
    if (at < below) return 'asleep';
    below += crashed;
    return at < below ? 'crashed' : undefined;
  }

  #runTimer(timer: Timer): void {
    if (timer.repeatMs === undefined) this.clearTimer(timer);
    else timer.dueMs = this.nowMs + timer.repeatMs;
    this.note(`${timer.process.name}: timer ${timer.number}`);
    runIn(timer.process, timer.run);
  }
}
