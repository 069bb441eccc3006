/** The cluster that is captured: our endpoint with three nodes and all that it can do wrong, or the server at PITR_TEST_AEROSPIKE. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Endpoint } from '../../aerospike/endpoint.ts';
import {
  digestOf,
  expRead,
  field,
  int,
  message,
  READ,
  u64,
  utf8,
  WRITE,
} from '../../aerospike/wire-bytes.ts';
import { WireConnection } from '../../aerospike/wire-connection.ts';

export const NAMESPACES = ['test', 'bar'] as const;
/** `92 14 91 42 93 16 91 43 …`: last update + since update · 10^6, the server's now in ns. */
const NOW = '93 14 91 42 93 16 91 43 ce 000f4240';
const PATIENCE_MS = 30_000;

export class Source {
  readonly host: string;
  readonly port: number;
  readonly endpoint: Endpoint | undefined;
  /** By how much a fault has set the server's clock, ms. */
  stepMs = 0;
  readonly #connections: WireConnection[] = [];
  #clock: WireConnection | undefined;
  #asked: Promise<unknown> = Promise.resolve();

  private constructor(host: string, port: number, endpoint: Endpoint | undefined) {
    this.host = host;
    this.port = port;
    this.endpoint = endpoint;
  }

  static async open(): Promise<Source> {
    const named = process.env.PITR_TEST_AEROSPIKE;
    if (named) {
      const colon = named.lastIndexOf(':');
      return new Source(named.slice(0, colon), Number(named.slice(colon + 1)), undefined);
    }
    const endpoint = await Endpoint.start({ nodes: 3, namespaces: NAMESPACES, faults: true });
    return new Source('127.0.0.1', endpoint.port, endpoint);
  }

  async connect(): Promise<WireConnection> {
    const connection = await this.again(() => WireConnection.open(this.host, this.port));
    this.#connections.push(connection);
    return connection;
  }

  /** Does it until it succeeds: sockets are dropped here. */
  async again<T>(work: () => Promise<T>): Promise<T> {
    const endMs = Date.now() + PATIENCE_MS;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (Date.now() > endMs) throw error;
        await sleep(5);
      }
    }
  }

  /** The server's clock; another machine's is asked. */
  async nowMs(): Promise<number> {
    if (this.endpoint) return Date.now() + this.stepMs;
    const asked = this.#asked.then(() => this.#ask());
    this.#asked = asked.catch(() => undefined);
    return asked;
  }

  /** One at a time: it is one connection. */
  async #ask(): Promise<number> {
    this.#clock ??= await this.connect();
    const set = 'pitr-clock';
    const fields = [field(0, utf8('test')), field(1, utf8(set)), field(4, digestOf(set, 1, u64(1)))];
    const ask = message({ info1: READ, fields, ops: [expRead('n', NOW)] });
    let reply = await this.#clock.call(ask);
    if (reply.code === 2) {
      await this.#clock.call(message({ info2: WRITE, fields, ops: [int('a', 1)] }));
      reply = await this.#clock.call(ask);
    }
    return Number(BigInt(`0x${reply.ops[0].split(':')[1]}`) / 1_000_000n);
  }

  /** Answers of the first node, in one request. */
  info(connection: WireConnection, ...commands: string[]): Promise<string[]> {
    return this.again(() => connection.info(...commands));
  }

  async fault(connection: WireConnection, text: string): Promise<void> {
    const [said] = await this.info(connection, `pitr-fault:${text}`);
    if (said !== 'ok') throw new Error(`${text}: ${said}`);
  }

  async close(): Promise<void> {
    for (const connection of this.#connections) connection.close();
    await this.endpoint?.close();
  }
}
