/** What an archive's store tells of itself: for metrics. Whoever observes nothing pays nothing. */
import type { ErrorId } from './errors.ts';
import type { FailureKind } from './s3-failure.ts';

export const REQUEST_KINDS = ['create', 'read', 'list', 'size', 'delete', 'read-swap', 'swap'] as const;

/** The methods of {@link ObjectStore}. */
export type RequestKind = (typeof REQUEST_KINDS)[number];

/**
 * - `request` One call of a store's method has ended, with all its tries and pauses. `errors` are the ids of what it threw or, for a
 *   deletion, of each object that is still there. Answers that callers reckon with are among them: `object-not-found`, `object-exists`,
 *   `cas-conflict`.
 *
 * The others come from stores that talk to a server. One request may be several of them, or none:
 * - `flight` A try goes out (1) or is over (-1).
 * - `try` A try is over; `failure` null: it did what it should.
 * - `retry` A try failed and there will be another.
 * - `wait` Time in which nothing was sent: for a place among those in flight, for bandwidth, or before another try.
 */
export type StoreEvent =
  | {
      readonly kind: 'request';
      readonly request: RequestKind;
      readonly ms: number;
      readonly sentBytes: number;
      readonly receivedBytes: number;
      readonly errors: readonly (ErrorId | 'internal')[];
    }
  | { readonly kind: 'flight'; readonly change: 1 | -1 }
  | { readonly kind: 'try'; readonly failure: FailureKind | null }
  | { readonly kind: 'retry'; readonly cause: FailureKind }
  | { readonly kind: 'wait'; readonly reason: WaitReason; readonly ms: number };

export const WAIT_REASONS = ['place', 'bandwidth', 'retry'] as const;
export type WaitReason = (typeof WAIT_REASONS)[number];

/** Called on the way of each request: it is quick and never throws. Events can be sent from one thread to another as they are. */
export type StoreObserver = (event: StoreEvent) => void;

/** The observer of a store in another thread: when that one is gone, nothing of it is in flight any more. */
export class RemoteObserver {
  readonly #observe: StoreObserver;
  #inFlight = 0;

  constructor(observe: StoreObserver) {
    this.#observe = observe;
  }

  heard(event: StoreEvent): void {
    if (event.kind === 'flight') this.#inFlight += event.change;
    this.#observe(event);
  }

  ended(): void {
    for (; this.#inFlight > 0; this.#inFlight--) this.#observe({ kind: 'flight', change: -1 });
  }
}
