/** Work on a cluster, each in a process of its own: loading it, copying, polling, writing at a rate, restoring into it. */
import { randomFillSync } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { jobOf } from '../cli/bench/isolate.ts';
import { median, timed } from '../cli/bench/measure.ts';
import { AerospikeClient, wireKeyOf } from '../engine/aerospike/client/client.ts';
import { putCommand, type RecordCommand } from '../engine/aerospike/client/command.ts';
import { PitrError } from '../engine/errors.ts';
import { ParticleType } from '../engine/particle.ts';
import { restoreCluster } from '../restore/aerospike/restore-cluster.ts';
import { copySource, publishCopy } from '../snapshot/source-copy.ts';
import { Archiver } from '../wal/archiver.ts';
import { Poller } from '../wal/capture/aerospike/poller.ts';
import { Journal } from '../wal/capture/journal.ts';

export const SET = 'bench';
const BATCH = 2000;

export interface Place {
  readonly host: string;
  readonly port: number;
  readonly namespace: string;
}

const clientOf = ({ host, port }: Place) => ({ hosts: [{ host, port }] });

const connected = async <T>(place: Place, work: (client: AerospikeClient) => Promise<T>): Promise<T> => {
  const client = await AerospikeClient.connect(clientOf(place));
  try {
    return await work(client);
  } finally {
    await client.close();
  }
};

const blob = Buffer.alloc(200);

/** An integer, a short string and 200 random bytes; the key is stored. */
const put = (namespace: string, key: number): RecordCommand => {
  const integer = Buffer.alloc(8);
  integer.writeBigInt64BE(BigInt(key));
  const random = Buffer.from(randomFillSync(blob));
  return putCommand(
    wireKeyOf(namespace, SET, { type: ParticleType.integer, bytes: integer }, true),
    [
      { name: 'n', type: ParticleType.integer, bytes: integer },
      { name: 's', type: ParticleType.string, bytes: Buffer.from(`record-${key % 1000}`) },
      { name: 'b', type: ParticleType.blob, bytes: random },
    ],
    { mode: 'replace', ttl: 'never', idempotent: true },
  );
};

const putAll = async (client: AerospikeClient, commands: readonly RecordCommand[]): Promise<void> => {
  const results = await client.runAll(commands, { timeoutMs: 60_000 });
  for (let i = 0; i < results.length; i++)
    if (results.code(i) !== 0)
      throw new PitrError('internal', { what: `a put was answered with ${results.code(i)}` });
};

/** Puts records 0 … n − 1. */
export const loadJob = jobOf(import.meta.url, 'load');
export const load = ({
  place,
  records,
}: {
  readonly place: Place;
  readonly records: number;
}): Promise<object> =>
  connected(place, async (client) => {
    for (let from = 0; from < records; from += BATCH) {
      const keys = Array.from({ length: Math.min(BATCH, records - from) }, (_, i) => from + i);
      await putAll(
        client,
        keys.map((key) => put(place.namespace, key)),
      );
    }
    return {};
  });

export interface CopyFigures {
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** With the poll after it and the publication. */
  readonly restorableSeconds: number;
  readonly records: number;
}

/** The base copy of a cluster into an archive, index included, and what makes it restorable. */
export const copyJob = jobOf(import.meta.url, 'copy');
export const copy = ({ place, dir }: { readonly place: Place; readonly dir: string }): Promise<CopyFigures> =>
  connected(place, async (client) => {
    const archiver = await Archiver.open(dir, { adopt: false });
    const journal = await Journal.open(dir);
    const poller = new Poller(client, journal);
    const { clockMs } = await poller.prepare();
    const { value, seconds, cpuSeconds } = await timed(() =>
      copySource(archiver.archive, journal, { client: clientOf(place), clockMs }),
    );
    const rest = await timed(async () => {
      const after = new Poller(client, journal);
      after.copied();
      while (!(await after.poll()).isStated) await sleep(10);
      await archiver.archivePending();
      await publishCopy(archiver.archive, journal, value, journal.frontierTs, async () => undefined);
    });
    await journal.close();
    await archiver.close();
    return { seconds, cpuSeconds, restorableSeconds: seconds + rest.seconds, records: value.records };
  });

export interface PollFigures {
  /** Nothing has changed. */
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** So many records have. */
  readonly changed: number;
  readonly changedSeconds: number;
}

export const pollJob = jobOf(import.meta.url, 'poll');
export const poll = (args: {
  readonly place: Place;
  readonly dir: string;
  readonly records: number;
  readonly runs: number;
  readonly changed: number;
  /** Until what was changed is out of the filter's overlap, ms. */
  readonly settleMs: number;
}): Promise<PollFigures> =>
  connected(args.place, async (client) => {
    const { place, dir, records, runs, changed, settleMs } = args;
    const journal = await Journal.open(dir);
    const poller = new Poller(client, journal);
    const once = async (): Promise<{ seconds: number; cpuSeconds: number }> => {
      // what is written in the ms of the frontier belongs to the next poll
      await sleep(50);
      return timed(() => poller.poll());
    };
    const unchanged: { seconds: number; cpuSeconds: number }[] = [];
    // the first ones bring what the overlap brings, and compile
    await sleep(settleMs);
    for (let run = 0; run < 3; run++) await once();
    for (let run = 0; run < runs; run++) unchanged.push(await once());
    const busy: number[] = [];
    for (let run = 0; run < runs; run++) {
      const keys = Array.from({ length: changed }, (_, i) => (i * 7919 + run) % records);
      await putAll(
        client,
        [...new Set(keys)].map((key) => put(place.namespace, key)),
      );
      busy.push((await once()).seconds);
      await sleep(settleMs);
      await once();
    }
    await journal.close();
    return {
      seconds: median(unchanged.map((u) => u.seconds)),
      cpuSeconds: median(unchanged.map((u) => u.cpuSeconds)),
      changed,
      changedSeconds: median(busy),
    };
  });

/** Puts of one tick: when the last one was acknowledged, ms. */
export interface PacedPuts {
  readonly ackedMs: readonly number[];
  readonly changes: number;
  readonly changesPerSecond: number;
}

const TICK_MS = 20;

export const pacedPutsJob = jobOf(import.meta.url, 'pacedPuts');
export const pacedPuts = (args: {
  readonly place: Place;
  readonly records: number;
  readonly rate: number;
  readonly seconds: number;
}): Promise<PacedPuts> =>
  connected(args.place, async (client) => {
    const { place, records, rate, seconds } = args;
    const size = Math.ceil((rate * TICK_MS) / 1000);
    const ackedMs: Promise<number>[] = [];
    const started = performance.now();
    let n = 0;
    for (let tick = 0; tick < (seconds * 1000) / TICK_MS; tick++) {
      const earlyMs = started + tick * TICK_MS - performance.now();
      if (earlyMs > 0) await sleep(earlyMs);
      const commands = Array.from({ length: size }, () =>
        put(place.namespace, Math.abs(Math.imul(n++, 2654435761)) % records),
      );
      ackedMs.push(putAll(client, commands).then(() => Date.now()));
    }
    const acked = await Promise.all(ackedMs);
    return { ackedMs: acked, changes: n, changesPerSecond: (n * 1000) / (performance.now() - started) };
  });

export interface RestoreFigures {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly records: number;
}

/** Into an empty cluster, read back and compared. */
export const restoreJob = jobOf(import.meta.url, 'restore');
export const restore = async (args: {
  readonly place: Place;
  readonly archive: string;
  readonly stateDir: string;
}): Promise<RestoreFigures> => {
  const { place, archive, stateDir } = args;
  const { value, seconds, cpuSeconds } = await timed(() =>
    restoreCluster({
      archive,
      target: 'latest',
      client: clientOf(place),
      place: `aerospike://${place.host}:${place.port}`,
      mode: 'add',
      stateDir: () => stateDir,
    }),
  );
  if (value.verification.target !== 'equal')
    throw new PitrError('internal', { what: 'the restored cluster was not compared' });
  return { seconds, cpuSeconds, records: value.tally.written };
};
