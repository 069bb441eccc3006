/** What can happen to a request on its way, and a schedule of it by a seed. */
import type { ServerResponse } from 'node:http';
import { type Handler, type Message, send, xmlError } from './http.ts';

export const FAULTS = [
  'error500', // without effect
  'error500After', // with effect
  'slowDown', // 503
  'ok200Error', // "200 OK" and an error in the body, without effect
  'ok200ErrorAfter', // the same, with effect
  'drop', // the connection ends before the request arrives
  'dropAfter', // and before its answer does
  'hang', // it has its effect, and no answer ever comes
  'cutBody', // half of the answer's body
  'duplicate', // delivered twice, answered the second time
  'lateDuplicate', // answered, and delivered again later
  'flipRequest', // a bit of the body turned on the way there
  'flipAnswer', // and on the way back
  'slow', // late
] as const;
export type Fault = (typeof FAULTS)[number];

const LATE_MS = 30;

/** Numbers from 0 to below 1 by a seed (xorshift32). */
export function numbers(seed: number): () => number {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x85ebca6b) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}

export class Faults {
  /** The faults of the next requests, one each, before those by chance. */
  planned: (Fault | 'none')[] = [];
  /** Which requests the planned ones are for. */
  meant: (message: Message) => boolean = () => true;
  /** Share of the requests that something happens to. */
  rate = 0;
  /** How often each happened. */
  readonly seen = new Map<Fault, number>();
  readonly #next: Handler;
  readonly #random: () => number;

  constructor(next: Handler, seed: number) {
    this.#next = next;
    this.#random = numbers(seed);
  }

  readonly answer = async (message: Message, response: ServerResponse): Promise<void> => {
    const fault = this.#choose(message);
    if (fault !== undefined) this.seen.set(fault, (this.seen.get(fault) ?? 0) + 1);
    const isHead = message.method === 'HEAD';
    const forward = () => this.#next(message);
    switch (fault) {
      case undefined:
        return send(response, await forward(), isHead);
      case 'error500':
        return send(response, xmlError(500, 'InternalError'), isHead);
      case 'error500After':
        await forward();
        return send(response, xmlError(500, 'InternalError'), isHead);
      case 'slowDown':
        return send(response, xmlError(503, 'SlowDown'), isHead);
      case 'ok200Error':
        return send(response, xmlError(200, 'InternalError'), isHead);
      case 'ok200ErrorAfter':
        await forward();
        return send(response, xmlError(200, 'InternalError'), isHead);
      case 'drop':
        response.destroy();
        return;
      case 'dropAfter':
        await forward();
        response.destroy();
        return;
      case 'hang':
        await forward();
        return;
      case 'cutBody': {
        const { status, headers, body } = await forward();
        response.writeHead(status, { ...headers, 'content-length': Math.max(body.length, 2) });
        response.write(body.subarray(0, body.length >> 1), () => response.destroy());
        return;
      }
      case 'duplicate':
        await forward();
        return send(response, await forward(), isHead);
      case 'lateDuplicate': {
        send(response, await forward(), isHead);
        setTimeout(() => forward().catch(() => undefined), LATE_MS);
        return;
      }
      case 'flipRequest':
        return send(response, await this.#next({ ...message, body: this.#flip(message.body) }), isHead);
      case 'flipAnswer': {
        const answer = await forward();
        return send(response, { ...answer, body: this.#flip(answer.body) }, isHead);
      }
      case 'slow':
        await new Promise((resolve) => setTimeout(resolve, LATE_MS));
        return send(response, await forward(), isHead);
      default:
        fault satisfies never;
    }
  };

  #choose(message: Message): Fault | undefined {
    if (this.planned.length > 0 && this.meant(message)) {
      const planned = this.planned.shift()!;
      return planned === 'none' ? undefined : planned;
    }
    if (this.#random() >= this.rate) return undefined;
    const fault = FAULTS[Math.floor(this.#random() * FAULTS.length)]!;
    return isFair(fault, message) ? fault : undefined;
  }

  #flip(body: Buffer): Buffer {
    const flipped = Buffer.from(body);
    const at = Math.floor(this.#random() * body.length);
    if (body.length > 0) flipped[at] = flipped[at]! ^ (1 << Math.floor(this.#random() * 8));
    return flipped;
  }
}

/**
 * No client of S3 can defend itself against a deletion or an unconditional write that arrives again after others, nor notice a
 * bit that turned in a listing or in a range: TLS and the formats' own checksums do that.
 */
function isFair(fault: Fault, { method, headers, url }: Message): boolean {
  const isQuery = /[?&](list-type|delete|uploads|uploadId|lifecycle|object-lock)/.test(url);
  if (fault === 'lateDuplicate') return method === 'PUT' && headers['if-match'] !== undefined;
  if (fault === 'flipAnswer') return method === 'GET' && !isQuery && headers.range === undefined;
  if (fault === 'flipRequest') return method === 'PUT';
  return true;
}
