import { PitrError } from '../../errors.ts';
import type { Settings } from './client-options.ts';
import type { Connection } from './connection.ts';

interface Waiter {
  readonly give: (connection: Connection) => void;
  readonly refuse: (error: PitrError) => void;
  readonly cancel: () => void;
}

/** The sockets of one node: bounded, ready to use, each with one user at a time. The one used last is taken first, so others become idle and go. */
export class ConnectionPool {
  readonly #settings: Settings;
  readonly #open: () => Promise<Connection>;
  readonly #idle: Connection[] = [];
  readonly #waiters: Waiter[] = [];
  /** Taken out and not come back, and those that are being opened. */
  #taken = 0;
  #closedBy: PitrError | undefined;
  readonly #taking = new Set<Connection>();

  /** `open` makes a socket that is logged in. */
  constructor(settings: Settings, open: () => Promise<Connection>) {
    this.#settings = settings;
    this.#open = open;
  }

  get size(): number {
    return this.#taken + this.#idle.length;
  }

  /** @throws what opening throws; aerospike-timeout when all sockets stay taken; what the pool was closed with */
  async acquire(timeoutMs: number): Promise<Connection> {
    for (;;) {
      this.#assertOpen();
      const idle = this.#idle.pop();
      if (idle) {
        idle.attach(undefined);
        if (!idle.isOpen) continue;
        return this.#take(idle);
      }
      if (this.size < this.#settings.socketsMax) return this.#openOne();
      return this.#wait(timeoutMs);
    }
  }

  async #openOne(): Promise<Connection> {
    this.#taken++;
    let connection: Connection;
    try {
      connection = await this.#open();
    } catch (error) {
      this.#taken--;
      this.#helpWaiter();
      throw error;
    }
    this.#taken--;
    if (this.#closedBy) connection.destroy();
    this.#assertOpen();
    return this.#take(connection);
  }

  #take(connection: Connection): Connection {
    this.#taken++;
    this.#taking.add(connection);
    return connection;
  }

  #wait(timeoutMs: number): Promise<Connection> {
    const { timing } = this.#settings;
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        give: resolve,
        refuse: reject,
        cancel: timing.after(timeoutMs, () => {
          this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
          reject(new PitrError('aerospike-timeout', { what: 'waiting for a free socket', ms: timeoutMs }));
        }),
      };
      this.#waiters.push(waiter);
    });
  }

  /** Gives a socket back; one with an answer still on its way must be destroyed before. */
  release(connection: Connection): void {
    if (!this.#taking.delete(connection)) return;
    this.#taken--;
    connection.attach(undefined);
    if (this.#closedBy) connection.destroy();
    if (connection.isOpen) {
      const waiter = this.#waiters.shift();
      if (waiter) {
        waiter.cancel();
        waiter.give(this.#take(connection));
        return;
      }
      this.#idle.push(connection);
      connection.attach({
        frame: () => connection.destroy(),
        lost: () => {
          const at = this.#idle.indexOf(connection);
          if (at >= 0) this.#idle.splice(at, 1);
        },
      });
      connection.activeAtMs = this.#settings.timing.nowMs();
    } else this.#helpWaiter();
  }

  /** A place is free and no socket: somebody who waits opens one. */
  #helpWaiter(): void {
    const waiter = this.#waiters.shift();
    if (!waiter) return;
    waiter.cancel();
    this.#openOne().then(waiter.give, waiter.refuse);
  }

  /** Closes what has been idle for too long. */
  reap(): void {
    const oldestMs = this.#settings.timing.nowMs() - this.#settings.idleMsMax;
    for (const connection of this.#idle.filter((c) => c.activeAtMs < oldestMs)) connection.destroy();
  }

  /** Closes every socket, also those that are in use; who uses or waits for one gets `error`. */
  close(error: PitrError): void {
    this.#closedBy = error;
    for (const waiter of this.#waiters.splice(0)) {
      waiter.cancel();
      waiter.refuse(error);
    }
    for (const connection of [...this.#idle, ...this.#taking]) connection.destroy(error);
  }

  #assertOpen(): void {
    if (this.#closedBy) throw this.#closedBy;
  }
}
