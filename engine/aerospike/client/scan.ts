import { type ErrorId, PitrError } from '../../errors.ts';
import { PartitionSet } from '../../partition.ts';
import { Info1, Info2 } from '../bits.ts';
import { MessageWriter } from '../message-writer.ts';
import { OpId } from '../operation.ts';
import type { QueryPartition } from '../partition-query.ts';
import { isRetryable, ResultCode } from '../result-code.ts';
import { backoffMs } from './backoff.ts';
import { BlockQueue } from './block-queue.ts';
import type { Settings } from './client-options.ts';
import type { Cluster } from './cluster.ts';
import { type ClusterNode, isBuildAtLeast } from './cluster-node.ts';
import { resultError } from './command-results.ts';
import { type PageRequest, writePage } from './command-writer.ts';
import type { Connection } from './connection.ts';
import { askInfo } from './exchange.ts';
import type { Name } from './name.ts';
import { parseQueryAccount, type QueryAccount } from './query-account.ts';
import type { RateLimit } from './rate-limit.ts';
import { LUT_OP, type WireOp } from './record.ts';
import type { RecordBlock } from './record-block.ts';
import { ScanPage } from './scan-page.ts';
import { PageSizes, ScanPlan } from './scan-plan.ts';
import { sleep } from './timing.ts';

export interface ScanOptions {
  readonly namespace: string;
  /** Default every set, and records without. */
  readonly set?: Name;
  /** Default all, each from its start. {@link Scan.points} of an earlier scan: from where its consumer got to. */
  readonly partitions?: PartitionSet | readonly QueryPartition[];
  /** An expression (its bytes): which records. */
  readonly filter?: Uint8Array;
  /** `none`: digest, generation, void time, set, key. Default all bins. Not with `ops`. */
  readonly bins?: 'all' | 'none';
  /** Only what these reads give, none of which may fail: where one does the server leaves the record out, and the scan does not finish. */
  readonly ops?: readonly WireOp[];
  /** Adds last update to `ops`. Needs 8.1.2 on every node, as all ops but plain reads do. */
  readonly withLut?: boolean;
  /** Bytes that a page should have. Default 8 MiB. */
  readonly pageBytes?: number;
  /** What earlier scans of the namespace have learned of the size of pages: one after the other begins with large ones. In place of `pageBytes`. */
  readonly sizes?: PageSizes;
  /**
   * False: one query for all partitions of a node. For filters that let little through, when {@link Scan.totals} must count each rejected
   * record once. More than 64 MiB that the consumer has not taken end the scan then. Default true.
   */
  readonly isPaged?: boolean;
  /** The server's bound, for each node. */
  readonly recordsPerSecond?: number;
  readonly signal?: AbortSignal;
}

/** Of verified pages. With pages, records that a filter rejected may be counted more than once: before and after the page's border. */
export interface ScanTotals {
  readonly records: number;
  readonly bytes: number;
  readonly pages: number;
  readonly filteredMeta: number;
  readonly filteredBins: number;
}

const PAGE_BYTES = 8 * 1024 * 1024;
/** Pages of a node that may fail in a row before it is left alone until the next round. */
const FAILED_PAGES_MAX = 16;
const BUFFER_BYTES_MAX = 64 * 1024 * 1024;
/** The first builds that can project ops other than plain reads. */
const OPS_BUILD = [8, 1, 2, 0];

/** What ends a scan at once; everything else is tried again. */
const isFinal = (error: unknown): boolean =>
  !(error instanceof PitrError) ||
  FINAL.has(error.id) ||
  (error.id === 'aerospike-result' && !isPassing(error));
const FINAL = new Set<ErrorId>([
  'wire-malformed',
  'aerospike-login',
  'aerospike-closed',
  'aerospike-unsupported',
  'aerospike-info',
  'usage',
  'internal',
]);
/** 22: the node runs as many queries as it may. */
const isPassing = ({ facts: { code } }: PitrError): boolean =>
  typeof code === 'number' && (isRetryable(code) || code === ResultCode.forbidden);

/**
 * Every record of the chosen partitions, in blocks; partitions interleave, within one digests descend. Not a state at one instant: a record
 * that nobody touches meanwhile comes at least once, **and may come again** after a page that had to be repeated; of a record that comes twice
 * the later block has the newer state. Iterate once. When it ends without error every partition was read to its end and verified; an
 * error names what is missing, and {@link points} is where another scan can go on.
 *
 * @throws aerospike-scan-incomplete, aerospike-result, aerospike-closed, wire-malformed, …
 */
export class Scan implements AsyncIterable<RecordBlock> {
  readonly #cluster: Cluster;
  readonly #settings: Settings;
  readonly #rate: RateLimit;
  readonly #options: ScanOptions;
  readonly #ops: readonly WireOp[];
  readonly #pageBytes: number;
  readonly #isPaged: boolean;
  /** What pages work on. */
  readonly #plan: ScanPlan;
  /** What the consumer has taken. */
  readonly #taken: ScanPlan;
  readonly #queue = new BlockQueue(BUFFER_BYTES_MAX);
  readonly #sizes: PageSizes;
  readonly #ending = new AbortController();
  #lastFailure: unknown;
  #totals = { records: 0, bytes: 0, pages: 0, filteredMeta: 0, filteredBins: 0 };

  /** @throws usage */
  constructor(cluster: Cluster, settings: Settings, rate: RateLimit, options: ScanOptions) {
    this.#cluster = cluster;
    this.#settings = settings;
    this.#rate = rate;
    this.#options = options;
    const ops = options.ops ?? [];
    this.#ops = options.withLut ? [...ops, LUT_OP] : ops;
    this.#sizes = options.sizes ?? new PageSizes(options.pageBytes ?? PAGE_BYTES);
    this.#pageBytes = this.#sizes.bytesWanted;
    this.#isPaged = options.isPaged ?? true;
    if (options.bins && options.ops)
      throw new PitrError('usage', { what: 'a scan with ops gives what these read, not also bins' });
    const { partitions = PartitionSet.all } = options;
    const points = partitions instanceof PartitionSet ? ScanPlan.points(partitions) : [...partitions];
    this.#plan = new ScanPlan(points);
    this.#taken = new ScanPlan(points);
  }

  /** What is left, as of the blocks that the consumer has come back from (N3): `partitions` of a scan that goes on. */
  points(): QueryPartition[] {
    return this.#taken.waiting();
  }

  get totals(): ScanTotals {
    return this.#totals;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<RecordBlock, void, undefined> {
    const stop = (): void => this.#ending.abort();
    const signals = [this.#options.signal, this.#cluster.signal];
    for (const signal of signals) signal?.addEventListener('abort', stop);
    if (signals.some((signal) => signal?.aborted)) stop();
    const work = this.#rounds().then(
      () => this.#queue.end(),
      (error) => this.#queue.end(error),
    );
    try {
      for (let block = await this.#queue.next(); block; block = await this.#queue.next()) yield block;
    } finally {
      stop();
      this.#queue.end();
      for (const signal of signals) signal?.removeEventListener('abort', stop);
      await work;
    }
  }

  /** Round after round until every partition is done. */
  async #rounds(): Promise<void> {
    const { attemptsMax, backoff, random, timing } = this.#settings;
    for (let fruitless = 0; !this.#plan.isDone; ) {
      const pages = this.#totals.pages;
      await this.#round();
      if (this.#plan.isDone) return;
      fruitless = this.#totals.pages > pages ? 1 : fruitless + 1;
      if (fruitless === attemptsMax) throw this.#incomplete(this.#lastFailure);
      await sleep(timing, backoffMs(backoff, fruitless, random), this.#ending.signal);
      this.#assertGoesOn();
      await this.#cluster.tend();
    }
  }

  #incomplete(cause: unknown): PitrError {
    return new PitrError(
      'aerospike-scan-incomplete',
      {
        namespace: this.#options.namespace,
        partitions: this.#plan.waitingText(),
        why: cause instanceof Error ? cause.message : 'no node is master of them',
      },
      { cause },
    );
  }

  /** Every node reads what it is master of now. @throws what ends the scan */
  async #round(): Promise<void> {
    this.#assertGoesOn();
    const { namespace } = this.#options;
    const byNode = new Map<ClusterNode, number[]>();
    for (const { partition } of this.#plan.waiting()) {
      const node = this.#cluster.ownerOf(namespace, partition);
      if (!node) continue;
      const list = byNode.get(node);
      if (list) list.push(partition);
      else byNode.set(node, [partition]);
    }
    if (byNode.size === 0 && this.#cluster.nodes.length > 0 && !this.#cluster.map.has(namespace))
      throw resultError('the scan', ResultCode.badNamespace);
    const ends = await Promise.allSettled([...byNode].map(([node, list]) => this.#readNode(node, list)));
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }

  /** Pages of one node until its partitions are done or wait for another round. @throws what ends the scan */
  async #readNode(node: ClusterNode, partitions: number[]): Promise<void> {
    const { timing } = this.#settings;
    const size = this.#sizes.of(node);
    let failures = 0;
    for (let list = partitions; list.length > 0 && !this.#ending.signal.aborted; ) {
      await this.#queue.reserve(this.#pageBytes);
      try {
        if (this.#ending.signal.aborted) return;
        // the list may be old by now; what moved away is the next round's
        list = list.filter((p) => this.#isMaster(node, p));
        const taken = list.slice(0, this.#isPaged ? size.partitions : list.length);
        if (taken.length === 0) return;
        list = list.slice(taken.length);
        const page = new ScanPage(taken.map((p) => this.#plan.point(p)));
        const recordsMax = this.#isPaged ? size.records : 0;
        const account = await this.#readPage(node, page, recordsMax);
        const isFull = recordsMax > 0 && page.records >= recordsMax;
        list = [...this.#settle(node, page, account, isFull), ...list];
        size.learn(taken.length, page.records, page.bytes, isFull);
        failures = 0;
        const waitMs = this.#rate.spend(page.records, page.bytes, timing.nowMs());
        if (waitMs > 0) await sleep(timing, waitMs, this.#ending.signal);
      } catch (error) {
        if (isFinal(error)) {
          this.#ending.abort();
          throw error;
        }
        this.#lastFailure = error;
        size.shrink();
        // what is wrong with a page need not be so with the others; what is wrong with a node is
        if (!(error instanceof PageError) || ++failures === FAILED_PAGES_MAX) return;
      } finally {
        this.#queue.unreserve(this.#pageBytes);
      }
    }
  }

  #isMaster(node: ClusterNode, partition: number): boolean {
    return this.#cluster.ownerOf(this.#options.namespace, partition) === node;
  }

  /** A verified page moves its partitions (N1, N2); returns those that the node has more of. */
  #settle(node: ClusterNode, page: ScanPage, account: QueryAccount, isFull: boolean): number[] {
    const more: number[] = [];
    const moves: ((plan: ScanPlan) => void)[] = [];
    for (const { partition } of page.partitions) {
      // a node that is not master any more may have answered from a replica, which may lag behind
      if (page.isUnavailable(partition) || !this.#isMaster(node, partition)) {
        this.#lastFailure = new PitrError('aerospike-unowned', {
          namespace: this.#options.namespace,
          partition,
        });
        continue;
      }
      if (!isFull) moves.push((plan) => plan.finish(partition));
      else {
        more.push(partition);
        const last = page.lastOf(partition);
        if (last) moves.push((plan) => plan.advance(partition, last));
      }
    }
    for (const move of moves) move(this.#plan);
    this.#queue.mark(() => {
      for (const move of moves) move(this.#taken);
    });
    const t = this.#totals;
    this.#totals = {
      records: t.records + page.records,
      bytes: t.bytes + page.bytes,
      // a page that had nothing and finished nothing is no progress
      pages: t.pages + (moves.length > 0 ? 1 : 0),
      filteredMeta: t.filteredMeta + account.filteredMeta,
      filteredBins: t.filteredBins + account.filteredBins,
    };
    return more;
  }

  /** One query and the server's account of it. @throws what ended it; PageError: it ended, but is not to be trusted */
  async #readPage(node: ClusterNode, page: ScanPage, recordsMax: number): Promise<QueryAccount> {
    const { timing, connectTimeoutMs, socketTimeoutMs } = this.#settings;
    const request = this.#request(node, page, recordsMax);
    const connection = await node.pool.acquire(connectTimeoutMs);
    try {
      const writer = new MessageWriter();
      writePage(writer, request);
      await this.#receive(node, connection, page, request.queryId, writer.take());
      if (page.code !== ResultCode.ok) throw resultError('the scan', page.code ?? ResultCode.unknown);
      const command = `query-show:trid=${request.queryId}`;
      const asked = askInfo(connection, [command], { timing, timeoutMs: socketTimeoutMs });
      const said = await this.#orEnded(connection, asked);
      return verified(page, parseQueryAccount(said.get(command) ?? '', command, node.name), node.name);
    } finally {
      node.pool.release(connection);
    }
  }

  /** `asked`, unless the scan ends before: then the socket does. */
  async #orEnded<T>(connection: Connection, asked: Promise<T>): Promise<T> {
    const { signal } = this.#ending;
    const abort = (): void => connection.destroy();
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    return asked.finally(() => signal.removeEventListener('abort', abort));
  }

  #request(node: ClusterNode, page: ScanPage, recordsMax: number): PageRequest {
    const { namespace, set = '', filter, bins, recordsPerSecond = 0 } = this.#options;
    if (this.#ops.some((o) => o.op !== OpId.read) && !isBuildAtLeast(node.build, OPS_BUILD))
      throw new PitrError('aerospike-unsupported', {
        node: node.name,
        build: node.build,
        what: 'reading by expressions in a scan',
        needed: OPS_BUILD.join('.'),
      });
    return {
      namespace,
      set,
      info1: Info1.read | (bins === 'none' && this.#ops.length === 0 ? Info1.noBins : 0),
      // a record for which no op has a value must come all the same
      info2: this.#ops.length > 0 ? Info2.respondAllOps : 0,
      ops: this.#ops,
      filter,
      queryId: this.#queryId(),
      partitions: page.partitions,
      recordsMax,
      recordsPerSecond,
      socketTimeoutMs: Math.ceil(this.#settings.socketTimeoutMs),
    };
  }

  /** The server refuses one that it has seen lately. */
  #queryId(): bigint {
    const { random } = this.#settings;
    const half = (): bigint => BigInt(Math.floor(random() * 2 ** 32));
    return (half() << 32n) | half() | 1n;
  }

  /** Resolves when the last message is there. */
  #receive(
    node: ClusterNode,
    connection: Connection,
    page: ScanPage,
    queryId: bigint,
    request: Buffer,
  ): Promise<void> {
    const { timing, socketTimeoutMs } = this.#settings;
    const { signal } = this.#ending;
    return new Promise((resolve, reject) => {
      let cancel = (): void => {};
      const abort = (): void => connection.destroy();
      const end = (): void => {
        cancel();
        signal.removeEventListener('abort', abort);
      };
      const watch = (): void => {
        cancel = timing.after(socketTimeoutMs, () => {
          const silentMs = timing.nowMs() - connection.activeAtMs;
          if (silentMs < socketTimeoutMs / 2) watch();
          else
            void this.#isAtWork(node, queryId).then((yes) => {
              if (page.code !== undefined || !connection.isOpen) return;
              if (yes) watch();
              else connection.destroy(silent(node, socketTimeoutMs));
            });
        });
      };
      connection.attach({
        frame: (type, body) => {
          const block = page.frame(type, body);
          if (block) this.#queue.push(block);
          if (page.code !== undefined) {
            end();
            connection.attach(undefined);
            resolve();
          } else if (this.#queue.isFull) connection.destroy(this.#tooLarge());
        },
        lost: (error) => {
          end();
          reject(error);
        },
      });
      if (!connection.isOpen) return;
      signal.addEventListener('abort', abort);
      watch();
      if (signal.aborted) abort();
      connection.write(request);
    });
  }

  /** A filter that rejects everything may keep a node silent for long: whether it still works is asked on another socket. */
  async #isAtWork(node: ClusterNode, queryId: bigint): Promise<boolean> {
    const command = `query-show:trid=${queryId}`;
    try {
      const said = await node.info([command], this.#settings.connectTimeoutMs);
      return (
        parseQueryAccount(said.get(command) ?? '', command, node.name)?.status.startsWith('active') ?? false
      );
    } catch {
      return false;
    }
  }

  #tooLarge(): PitrError {
    const why = `more than ${BUFFER_BYTES_MAX} bytes wait for their consumer`;
    if (this.#isPaged) return new PageError('aerospike-connection-lost', { node: 'a node', why });
    return new PitrError('usage', { what: `a scan without pages cannot go on: ${why}` });
  }

  #assertGoesOn(): void {
    this.#cluster.assertOpen('the scan was done');
    if (this.#ending.signal.aborted) throw new PitrError('interrupted', { what: 'the scan' });
  }
}

/** A page that is read again, while its node goes on with others. */
class PageError extends PitrError {}

const silent = (node: ClusterNode, ms: number): PitrError =>
  new PitrError('aerospike-timeout', { what: 'a page of the scan', ms, node: node.name });

/** The server's account must be that of what arrived. @throws PageError */
const verified = (page: ScanPage, account: QueryAccount | undefined, node: string): QueryAccount => {
  const why = !account
    ? `${node} does not know the query any more`
    : account.failed > 0
      ? `${node} left out ${account.failed} records that it could not read`
      : account.succeeded !== page.records
        ? `${node} says that it sent ${account.succeeded} records, ${page.records} arrived`
        : undefined;
  if (account && why === undefined) return account;
  throw new PageError('verification-failed', { what: `${why}`, hint: 'the log of the node says more' });
};
