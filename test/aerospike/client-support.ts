import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import type { ClientOptions } from '../../engine/aerospike/client/client-options.ts';
import { readCommand, type WireKey } from '../../engine/aerospike/client/command.ts';
import type { AerospikeRecord, Bin } from '../../engine/aerospike/client/record.ts';
import type { Scan } from '../../engine/aerospike/client/scan.ts';
import {
  AerospikeServer,
  type AerospikeServerOptions,
} from '../../engine/aerospike/server/aerospike-server.ts';
import { Faults } from '../../engine/aerospike/server/faults.ts';
import { PitrError } from '../../engine/errors.ts';
import { Engine } from '../../wal/engine.ts';

export const NAMESPACE = 'test';
/** The server that somebody else runs, `host:port`; undefined: ours is the subject. */
export const REAL = process.env.PITR_TEST_AEROSPIKE;

/** A set of this run alone: a shared server may have seen the suite before. */
export const freshSet = (): string => `ct-${randomBytes(6).toString('hex')}`;

/** Waits of tests are short. */
export const QUICK: Partial<ClientOptions> = {
  tendIntervalMs: 50,
  backoff: { firstMs: 5, maxMs: 40 },
};

export interface OwnServer {
  readonly server: AerospikeServer;
  readonly faults: Faults;
  readonly port: number;
  close(): Promise<void>;
}

/** Our own server over a new engine, in this process. */
export const ownServer = async (options: Partial<AerospikeServerOptions> = {}): Promise<OwnServer> => {
  const dir = await mkdtemp(join(tmpdir(), 'pitr-client-'));
  const engine = await Engine.open({ dir });
  const faults = new Faults();
  const server = await AerospikeServer.listen({ engine, port: 0, faults, ...options });
  return {
    server,
    faults,
    port: server.addresses[0].port,
    close: async () => {
      await server.close();
      await engine.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
};

/** A server, its client, and a set; the set's records go when it closes. */
export class Bench {
  readonly client: AerospikeClient;
  readonly host: string;
  readonly port: number;
  readonly set: string;
  readonly own: OwnServer | undefined;

  private constructor(
    client: AerospikeClient,
    address: { host: string; port: number },
    own: OwnServer | undefined,
  ) {
    this.client = client;
    this.host = address.host;
    this.port = address.port;
    this.own = own;
    this.set = freshSet();
  }

  static async open(options: Partial<ClientOptions> = {}): Promise<Bench> {
    const own = REAL === undefined ? await ownServer() : undefined;
    const [host = '127.0.0.1', port = `${own?.port}`] = REAL?.split(':') ?? [];
    const address = { host, port: Number(port) };
    return new Bench(await AerospikeClient.connect({ hosts: [address], ...QUICK, ...options }), address, own);
  }

  /** Why tests of filters and of last update cannot run, for a test's `skip`; undefined: they can. */
  async lacksExpressions(): Promise<string | undefined> {
    const key = { ...this.key(-1), set: '' };
    await this.client.put(key, [intBin('a', 1)]);
    const read = await this.client.runAll([readCommand(key, { filter: Buffer.from('c3', 'hex') })]);
    await this.client.delete(key);
    return read.code(0) === 0 ? undefined : 'this server has no expressions yet';
  }

  key(n: number, isStored = false): WireKey {
    return wireKeyOf(NAMESPACE, this.set, { type: 1, bytes: u64(n) }, isStored);
  }

  async close(): Promise<void> {
    await this.client.infoAll([`truncate:namespace=${NAMESPACE};set=${this.set}`]);
    await this.client.close();
    await this.own?.close();
  }
}

export const u64 = (n: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(n));
  return bytes;
};

export const intBin = (name: string, n: number | bigint): Bin => ({ name, type: 1, bytes: u64(n) });
export const hexBin = (name: string, type: number, hex: string): Bin => ({
  name,
  type,
  bytes: Buffer.from(hex, 'hex'),
});

/** Bins as text, in the order of their names: for comparing. */
export const binTexts = (bins: readonly Bin[]): string[] =>
  bins
    .map(
      (b) =>
        `${Buffer.from(b.name as string).toString('latin1')} ${b.type} ${Buffer.from(b.bytes).toString('hex')}`,
    )
    .sort();

export const collect = async (scan: Scan): Promise<AerospikeRecord[]> => {
  const records: AerospikeRecord[] = [];
  for await (const block of scan) records.push(...block.records());
  return records;
};

export const digestsOf = (records: readonly { readonly digest: Uint8Array }[]): string[] =>
  records.map(({ digest }) => Buffer.from(digest).toString('hex')).sort();

/** For assert.rejects and throws: this id, and these facts. */
export const isError =
  (id: string, facts: Record<string, unknown> = {}) =>
  (error: unknown): boolean => {
    if (!(error instanceof PitrError) || error.id !== id) throw error;
    for (const [name, value] of Object.entries(facts))
      if (error.facts[name] !== value)
        throw new Error(`${name} is ${error.facts[name]}, not ${value}`, { cause: error });
    return true;
  };

/** Waits until `check` holds; the caller's test has the time limit. */
export const until = async (check: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await check())) await new Promise((resolve) => setTimeout(resolve, 5));
};
