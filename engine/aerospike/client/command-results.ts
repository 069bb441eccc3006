import { PitrError } from '../../errors.ts';
import { fromWireVoidTime } from '../epoch.ts';
import { MESSAGE_HEADER_BYTES, MessageView } from '../message.ts';
import { ResultCode, resultCodeName } from '../result-code.ts';
import { isWrite, type RecordCommand } from './command.ts';
import { imageOf } from './image.ts';
import { type AerospikeRecord, type Bin, binsOf } from './record.ts';

/** No answer: `failure` says why. */
export const NO_ANSWER = -1;

/** Answers up to this size are copied out of the chunk that they came in; a larger one may keep its chunk in memory. */
const COPY_BYTES_MAX = 16 * 1024;

const NOTHING = new Uint8Array(0);
/** A header and nothing else. */
const NO_MESSAGE = Buffer.alloc(MESSAGE_HEADER_BYTES);
NO_MESSAGE[0] = MESSAGE_HEADER_BYTES;

/** What came of commands, by their place: columns, no object for each. */
export class CommandResults {
  readonly commands: readonly RecordCommand[];
  readonly #codes: Int16Array;
  readonly #generations: Uint16Array;
  readonly #voidTimes: Uint32Array;
  /** Messages with bins. */
  readonly #messages: (Buffer | undefined)[] = [];
  readonly #failures = new Map<number, PitrError>();
  /** Of which an attempt, not only the last one, may have been done. */
  readonly #doubts = new Set<number>();
  readonly #view = new MessageView();

  constructor(commands: readonly RecordCommand[]) {
    this.commands = commands;
    this.#codes = new Int16Array(commands.length).fill(NO_ANSWER);
    this.#generations = new Uint16Array(commands.length);
    this.#voidTimes = new Uint32Array(commands.length);
  }

  get length(): number {
    return this.commands.length;
  }

  /** Result code of the server, {@link NO_ANSWER} when it gave none. */
  code(i: number): number {
    return this.#codes[i];
  }

  generation(i: number): number {
    return this.#generations[i];
  }

  /** Seconds since 1970, 0 never. */
  voidTimeS(i: number): number {
    return fromWireVoidTime(this.#voidTimes[i]);
  }

  /** The bins of the answer. Copies. */
  bins(i: number): { readonly bins: Bin[]; readonly lutMs: number | undefined } {
    const message = this.#messages[i];
    if (!message) return { bins: [], lutMs: undefined };
    this.#view.parse(message);
    return binsOf(this.#view);
  }

  /** The record as an image (engine/image.ts). `key`: its stored key as a field has it; answers do not repeat it. */
  image(i: number, key: Uint8Array = NOTHING): Buffer {
    const message = this.#messages[i];
    this.#view.parse(message ?? NO_MESSAGE);
    return imageOf(this.#view, key, 0, key.length);
  }

  /** Answers of an `operate`, one for each op, null ones among them. Copies. */
  answers(i: number): Bin[] {
    const message = this.#messages[i];
    const answers: Bin[] = [];
    if (!message) return answers;
    this.#view.parse(message);
    while (this.#view.nextOp())
      answers.push({
        name: this.#view.opName,
        type: this.#view.opType,
        bytes: Buffer.from(this.#view.opValue),
      });
    return answers;
  }

  /** What was read as a record; undefined unless the code is 0. The key is the command's: single answers do not repeat it. */
  record(i: number): AerospikeRecord | undefined {
    if (this.#codes[i] !== ResultCode.ok) return undefined;
    const { namespace, set, digest, key } = this.commands[i];
    return {
      namespace,
      set,
      digest: Buffer.from(digest),
      key,
      generation: this.#generations[i],
      voidTimeS: this.voidTimeS(i),
      ...this.bins(i),
    };
  }

  /** Why there is no answer, or the refusal as an error; undefined: code 0. */
  failure(i: number): PitrError | undefined {
    const code = this.#codes[i];
    if (code === ResultCode.ok) return undefined;
    if (code === NO_ANSWER) return this.#failures.get(i);
    return resultError(`the ${isWrite(this.commands[i]) ? 'write' : 'read'}`, code, this.isInDoubt(i));
  }

  /** A write that may have been done, or not: nobody knows. */
  isInDoubt(i: number): boolean {
    if (!isWrite(this.commands[i])) return false;
    return this.#codes[i] !== ResultCode.ok && this.#doubts.has(i);
  }

  /** Places whose code is not 0. */
  failed(): number[] {
    const failed: number[] = [];
    for (let i = 0; i < this.#codes.length; i++) if (this.#codes[i] !== ResultCode.ok) failed.push(i);
    return failed;
  }

  /** Takes an answer over. */
  answer(i: number, m: MessageView, start: number, end: number): void {
    this.refuse(i, m.result);
    this.#generations[i] = m.generation;
    this.#voidTimes[i] = m.recordTtl;
    if (m.ops === 0) return;
    const message = m.bytes.subarray(start, end);
    this.#messages[i] = message.length > COPY_BYTES_MAX ? message : Buffer.from(message);
  }

  /** A code for a command that got no answer of its own. */
  refuse(i: number, code: number): void {
    this.#codes[i] = code;
    if (isUnclear(code)) this.#doubts.add(i);
  }

  /** `isUnclear`: this attempt may have been done. */
  fail(i: number, error: PitrError, isUnclear: boolean): void {
    this.#codes[i] = NO_ANSWER;
    if (isUnclear) this.#doubts.add(i);
    const inDoubt = this.isInDoubt(i);
    this.#failures.set(
      i,
      inDoubt ? new PitrError(error.id, { ...error.facts, inDoubt }, { cause: error }) : error,
    );
  }
}

/** Codes after which a write may have been done. */
export const isUnclear = (code: number): boolean =>
  code === ResultCode.timeout || code === ResultCode.clusterKeyMismatch;

export const resultError = (what: string, code: number, inDoubt = false): PitrError =>
  new PitrError('aerospike-result', { what, code, name: resultCodeName(code), inDoubt });
