import { objectsIn, type ShipLimits, type Shipment } from './shipment.ts';

/** What is done with shipments. Never called twice at the same time, but for `create`. */
export interface ShipmentPort {
  create(name: string, bytes: Uint8Array): Promise<void>;
  /** Makes the catalog say that these are there, in this order, all or none. */
  publish(shipments: readonly Shipment[]): Promise<void>;
  /** Deletes objects of which no head was ever sent that lists them. Best effort. */
  discard(names: readonly string[]): Promise<void>;
}

interface Entry {
  readonly shipment: Shipment;
  /** Its object is durable. */
  isThere: boolean;
}

/**
 * Shipments on their way: their objects are created side by side, the catalog learns of them strictly in order of the log.
 * While one publication is under way more objects become durable; the next one takes all that have no hole before them.
 *
 * After a failure nothing more begins. What has no hole before it is still published; the rest is as if it had never been.
 */
export class ShipmentQueue {
  readonly #port: ShipmentPort;
  readonly #limits: Pick<ShipLimits, 'creates' | 'createBytes'>;
  /** Not published, in order. */
  #entries: Entry[] = [];
  #creating = 0;
  #creatingBytes = 0;
  #isPublishing = false;
  #failure: { readonly error: unknown; readonly isOfCatalog: boolean } | undefined;
  #versions = 0;
  #change = Promise.withResolvers<void>();

  constructor(port: ShipmentPort, limits: Pick<ShipLimits, 'creates' | 'createBytes'>) {
    this.#port = port;
    this.#limits = limits;
  }

  /** Waits for room and sets out. False: something failed, nothing more is taken; {@link end} says what. */
  async add(shipment: Shipment, bytes: Uint8Array): Promise<boolean> {
    while (!this.#failure && !this.#hasRoomFor(bytes.length)) await this.#change.promise;
    if (this.#failure) return false;
    const entry = { shipment, isThere: false };
    this.#entries.push(entry);
    void this.#create(entry, bytes);
    return true;
  }

  /**
   * Waits until nothing is on its way any more. Returns the number of versions that were published.
   * @throws what failed, once what was created and will not be listed is gone
   */
  async end(): Promise<number> {
    while (this.#creating > 0 || this.#isPublishing) await this.#change.promise;
    if (!this.#failure) return this.#versions;
    const left = this.#entries.filter((e) => e.isThere).flatMap((e) => objectsIn(e.shipment));
    if (left.length > 0) await this.#port.discard(left).catch(() => undefined);
    throw this.#failure.error;
  }

  #hasRoomFor(bytes: number): boolean {
    const { creates, createBytes } = this.#limits;
    return (
      this.#creating < creates &&
      (this.#creating === 0 || this.#creatingBytes + bytes <= createBytes) &&
      // a catalog that does not answer must not have a whole spool waiting for it
      this.#entries.length < 2 * creates
    );
  }

  async #create(entry: Entry, bytes: Uint8Array): Promise<void> {
    const { length } = bytes;
    this.#creating++;
    this.#creatingBytes += length;
    try {
      for (const name of objectsIn(entry.shipment)) await this.#port.create(name, bytes);
      entry.isThere = true;
    } catch (error) {
      this.#failure ??= { error, isOfCatalog: false };
    }
    this.#creating--;
    this.#creatingBytes -= length;
    this.#changed();
    void this.#publish();
  }

  async #publish(): Promise<void> {
    if (this.#isPublishing) return;
    this.#isPublishing = true;
    try {
      while (!this.#failure?.isOfCatalog) {
        const hole = this.#entries.findIndex((e) => !e.isThere);
        const ready = this.#entries.slice(0, hole < 0 ? this.#entries.length : hole);
        if (ready.length === 0) break;
        // whatever becomes of it, they are no longer this queue's to delete
        this.#entries = this.#entries.slice(ready.length);
        await this.#port.publish(ready.map((e) => e.shipment));
        for (const { shipment } of ready) this.#versions += shipment.versions;
        this.#changed();
      }
    } catch (error) {
      // who has lost the stream must hear of that, whatever else failed
      this.#failure = { error, isOfCatalog: true };
    }
    this.#isPublishing = false;
    this.#changed();
  }

  #changed(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }
}
