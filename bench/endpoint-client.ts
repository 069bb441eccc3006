/** Clients of the endpoint's benchmark: one socket that is written to without waiting, and Aerospike's own client. */
import { connect, type Socket } from 'node:net';
import { BIN, keyOf, SET } from '../cli/bench/database.ts';
import { jobOf } from '../cli/bench/isolate.ts';
import { median, quantile } from '../cli/bench/measure.ts';
import { Workload } from '../cli/bench/workload.ts';
import { Info1, Info2, Info3, WireTtl } from '../engine/aerospike/bits.ts';
import { FieldId } from '../engine/aerospike/field.ts';
import { MessageView } from '../engine/aerospike/message.ts';
import { MessageWriter } from '../engine/aerospike/message-writer.ts';
import { OpId } from '../engine/aerospike/operation.ts';
import { writeQueryPartitions } from '../engine/aerospike/partition-query.ts';
import { FrameReader } from '../engine/aerospike/proto.ts';
import { PitrError } from '../engine/errors.ts';
import { ParticleType } from '../engine/particle.ts';
import { PARTITIONS } from '../engine/partition.ts';
import { resolveKey } from '../engine/record-key.ts';

export const NAMESPACE = 'test';
const WARM_UP_MS = 300;
/** Values made beforehand: making them is not what is measured. */
const VALUES = 4096;
/** Requests in one write to the socket. */
const CHUNK = 64;

export interface LoadArgs {
  readonly port: number;
  readonly records: number;
  readonly ms: number;
  /** Requests that are sent and not answered. */
  readonly inFlight: number;
}

/** What one load came to. */
export interface LoadFigures {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** What single records and scans of one client came to. */
export interface ClientFigures {
  readonly puts: LoadFigures;
  readonly gets: LoadFigures;
}

/** A request of each record, as bytes, some in one buffer; in an order that is not that of the keys. */
const requestsOf = (records: number, write: (w: MessageWriter, key: number) => void): Buffer[] => {
  const chunks: Buffer[] = [];
  const w = new MessageWriter();
  for (let n = 0; n < records; n++) {
    w.beginFrame();
    write(w, (n * 7919) % records);
    w.endMessage();
    w.endFrame();
    if ((n + 1) % CHUNK === 0 || n + 1 === records) chunks.push(Buffer.from(w.take()));
  }
  return chunks;
};

const writeKey = (w: MessageWriter, key: number): void => {
  const id = resolveKey({ ...keyOf(key), namespace: NAMESPACE });
  w.fieldText(FieldId.namespace, NAMESPACE);
  w.fieldText(FieldId.set, SET);
  w.field(FieldId.digest, id.digest);
};

const putsOf = (records: number): Buffer[] => {
  const workload = new Workload(0);
  const values = Array.from({ length: VALUES }, (_, i) => workload.value(i, 1));
  return requestsOf(records, (w, key) => {
    w.beginMessage({ info2: Info2.write, recordTtl: WireTtl.never });
    writeKey(w, key);
    w.opOf(OpId.write, BIN, { type: ParticleType.blob, bytes: values[key % VALUES] });
  });
};

const getsOf = (records: number): Buffer[] =>
  requestsOf(records, (w, key) => {
    w.beginMessage({ info1: Info1.read | Info1.getAll });
    writeKey(w, key);
  });

const connected = async (port: number): Promise<Socket> => {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return socket;
};

/** Sends chunk after chunk, never more than `inFlight` requests ahead of the answers, for `ms` or until each was sent once. */
const pipeline = async (
  port: number,
  chunks: readonly Buffer[],
  { inFlight, ms }: { readonly inFlight: number; readonly ms: number | undefined },
): Promise<{ answered: number; seconds: number; latencies: number[] }> => {
  const socket = await connected(port);
  const reader = new FrameReader();
  const view = new MessageView();
  const sentAt: number[] = [];
  const latencies: number[] = [];
  let sent = 0;
  let answered = 0;
  let next = 0;
  const started = performance.now();
  const isOver = (): boolean =>
    ms === undefined ? next === chunks.length : performance.now() - started > ms;
  const send = (): void => {
    while (!isOver() && sent - answered + CHUNK <= Math.max(inFlight, CHUNK)) {
      socket.write(chunks[next % chunks.length]);
      sentAt.push(performance.now());
      sent += countOf(chunks[next++ % chunks.length]);
    }
  };
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('close', () => reject(new PitrError('internal', { what: 'the server closed the connection' })));
    socket.on('data', (data: Buffer) => {
      reader.push(data);
      while (reader.next()) {
        view.parseWhole(reader.body);
        if (view.result !== 0)
          return reject(new PitrError('internal', { what: `the server answered ${view.result}` }));
        // of each chunk the last: all of it is answered then
        if (++answered % CHUNK === 0) latencies.push(performance.now() - (sentAt.shift() ?? 0));
      }
      send();
      if (isOver() && answered === sent) resolve();
    });
    send();
  });
  const seconds = (performance.now() - started) / 1000;
  socket.removeAllListeners('close').destroy();
  return { answered, seconds, latencies };
};

/** Requests in a chunk of {@link requestsOf}. */
const countOf = (chunk: Buffer): number => {
  let n = 0;
  for (let at = 0; at < chunk.length; at += 8 + chunk.readUInt32BE(at + 4)) n++;
  return n;
};

const figuresOf = (answered: number, seconds: number, latencies: readonly number[]): LoadFigures => ({
  perSecond: answered / seconds,
  p50Ms: quantile(latencies, 0.5),
  p99Ms: quantile(latencies, 0.99),
});

/** Puts and gets of all records through one socket, the first puts not counted: they make the records. */
export const pipelinedJob = jobOf(import.meta.url, 'pipelined');
export const pipelined = async ({ port, records, ms, inFlight }: LoadArgs): Promise<ClientFigures> => {
  const run = async (chunks: readonly Buffer[]): Promise<LoadFigures> => {
    await pipeline(port, chunks, { inFlight, ms: Math.min(ms, WARM_UP_MS) });
    const { answered, seconds, latencies } = await pipeline(port, chunks, { inFlight, ms });
    return figuresOf(answered, seconds, latencies);
  };
  const puts = putsOf(records);
  await pipeline(port, puts, { inFlight, ms: undefined });
  return { puts: await run(puts), gets: await run(getsOf(records)) };
};

/** Scans everything through one socket, several times. @returns records a second */
export const scanJob = jobOf(import.meta.url, 'scan');
export const scan = async (args: {
  readonly port: number;
  readonly records: number;
  readonly runs: number;
}): Promise<{ recordsPerSecond: number }> => {
  const w = new MessageWriter();
  w.beginFrame();
  w.beginMessage({ info1: Info1.read | Info1.getAll, info3: Info3.partitionDone });
  w.fieldText(FieldId.namespace, NAMESPACE);
  w.fieldText(FieldId.set, SET);
  writeQueryPartitions(
    w,
    Array.from({ length: PARTITIONS }, (_, partition) => ({ partition, after: undefined })),
  );
  w.endMessage();
  w.endFrame();
  const request = w.take();
  const rates: number[] = [];
  for (let run = 0; run < args.runs; run++) {
    const socket = await connected(args.port);
    const reader = new FrameReader();
    const view = new MessageView();
    let records = 0;
    const started = performance.now();
    await new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('data', (data: Buffer) => {
        reader.push(data);
        while (reader.next()) {
          for (let at = 0; at < reader.body.length; ) {
            at = view.parse(reader.body, at);
            if (view.result !== 0)
              return reject(new PitrError('internal', { what: `the scan answered ${view.result}` }));
            if (view.info3 & Info3.last) return resolve();
            records++;
          }
        }
      });
      socket.write(request);
    });
    rates.push(records / ((performance.now() - started) / 1000));
    socket.destroy();
    if (records !== args.records)
      throw new PitrError('internal', { what: `a scan of ${args.records} records gave ${records}` });
  }
  return { recordsPerSecond: median(rates) };
};

/** The part of the official client that is used here. */
interface OfficialClient {
  put(key: object, bins: object): Promise<unknown>;
  get(key: object): Promise<unknown>;
  batchRead(records: readonly object[]): Promise<readonly { readonly status: number }[]>;
  close(): void;
}

interface OfficialModule {
  connect(config: object): Promise<OfficialClient>;
  readonly Key: new (namespace: string, set: string, key: number) => object;
}

export interface OfficialFigures {
  readonly byInFlight: Readonly<Record<string, ClientFigures>>;
  /** Records of batch reads of 100, 8 in flight. */
  readonly batch: LoadFigures;
}

const BATCH = 100;

/** Aerospike's own client for Node.js; null when it is not installed. Records must be there. */
export const officialJob = jobOf(import.meta.url, 'official');
export const official = async (args: {
  readonly port: number;
  readonly records: number;
  readonly ms: number;
  readonly inFlight: readonly number[];
}): Promise<OfficialFigures | null> => {
  const module = await import('aerospike' as string).then(
    (m): OfficialModule => m.default ?? m,
    () => null,
  );
  if (!module) return null;
  const { port, records, ms } = args;
  const client = await module.connect({
    hosts: `127.0.0.1:${port}`,
    maxConnsPerNode: Math.max(...args.inFlight) + 8,
  });
  const workload = new Workload(0);
  const values = Array.from({ length: VALUES }, (_, i) => workload.value(i, 1));
  let n = 0;
  const keyNow = (): object => new module.Key(NAMESPACE, SET, (++n * 7919) % records);
  const run = async (
    inFlight: number,
    perCall: number,
    call: () => Promise<unknown>,
  ): Promise<LoadFigures> => {
    const rounds = async (forMs: number): Promise<{ latencies: number[]; seconds: number }> => {
      const latencies: number[] = [];
      const started = performance.now();
      const one = async (): Promise<void> => {
        for (let at = started; at - started < forMs; ) {
          await call();
          const now = performance.now();
          latencies.push(now - at);
          at = now;
        }
      };
      await Promise.all(Array.from({ length: inFlight }, one));
      return { latencies, seconds: (performance.now() - started) / 1000 };
    };
    await rounds(Math.min(ms, WARM_UP_MS));
    const { latencies, seconds } = await rounds(ms);
    return figuresOf(latencies.length * perCall, seconds, latencies);
  };
  try {
    const byInFlight: Record<string, ClientFigures> = {};
    for (const inFlight of args.inFlight)
      byInFlight[inFlight] = {
        puts: await run(inFlight, 1, () => client.put(keyNow(), { [BIN]: values[n % VALUES] })),
        gets: await run(inFlight, 1, () => client.get(keyNow())),
      };
    const batch = await run(8, BATCH, async () => {
      const rows = Array.from({ length: BATCH }, () => ({ type: 0, key: keyNow(), readAllBins: true }));
      for (const { status } of await client.batchRead(rows))
        if (status !== 0)
          throw new PitrError('internal', { what: `a row of a batch was answered ${status}` });
    });
    return { byInFlight, batch };
  } finally {
    client.close();
  }
};
