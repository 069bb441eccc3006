/** What keeping an archive costs: measured by what its agents asked for, and as a model of what other intervals would. */
import { NO_REQUESTS, plusCounts, type RequestCounts } from '../engine/request-tally.ts';
import type { Chain } from '../snapshot/chain.ts';
import { recentlyAsked } from '../wal/asked.ts';
import { FANOUT } from '../wal/levels.ts';

const DAY_MS = 86_400_000;
const MONTH_DAYS = 30;
/** As providers bill it. */
const GB = 2 ** 30;
/** What a shorter time would say of a day says nothing. */
const MEASURED_MS_MIN = 60_000;
/** Intervals that the model is shown for, ms. */
export const MODEL_SEAL_MS: readonly number[] = [1000, 10_000, 60_000, 300_000];
/** The engine seals its log this often unless it is told otherwise, ms. */
const LOCAL_SEAL_MS = 1000;

export interface Prices {
  /** Of a thousand requests. */
  readonly put: number;
  readonly get: number;
  /** Of 2^30 bytes for a month. */
  readonly gb: number;
}

/** What something costs in a month of 30 days. Deletions are free. */
export interface MonthlyCost {
  readonly puts: number;
  readonly gets: number;
  readonly storage: number;
  readonly total: number;
}

export interface StreamCost {
  readonly timeline: string;
  readonly stream: string;
  readonly sealMs: number | null;
  /** For how long it was measured; null: not for {@link MEASURED_MS_MIN} yet. */
  readonly measuredMs: number | null;
  /** Of its agents, as measured. */
  readonly perDay: RequestCounts;
}

/** What a day would be like if every interval had changes in it. */
export interface SealModel {
  readonly sealMs: number;
  /** What a lost machine loses at most, beside the time of an upload. */
  readonly rpoMs: number;
  readonly perDay: Pick<RequestCounts, 'puts' | 'gets' | 'deletes'>;
  readonly perMonth: MonthlyCost;
}

export interface Cost {
  readonly archive: string;
  readonly url: string;
  readonly prices: Prices;
  /** Bytes of everything that the catalog lists. */
  readonly storedBytes: number;
  readonly streams: readonly StreamCost[];
  readonly perDay: RequestCounts;
  readonly perMonth: MonthlyCost;
  /** Of one stream each; without storage, which does not depend on the interval. */
  readonly model: { readonly fanout: number; readonly seals: readonly SealModel[] };
}

export interface CostOptions {
  readonly prices: Prices;
  readonly nowMs: number;
  readonly fanout?: number;
}

export const costOf = (chain: Chain, { prices, nowMs, fanout = FANOUT }: CostOptions): Cost => {
  const streams = chain.timelines.flatMap((t) =>
    t.streams.map(({ stream, sealMs, asked }): StreamCost => {
      const recent = asked && recentlyAsked(asked, nowMs);
      if (!recent || recent.ms < MEASURED_MS_MIN)
        return { timeline: t.id, stream, sealMs, measuredMs: null, perDay: NO_REQUESTS };
      const { counts, ms } = recent;
      return { timeline: t.id, stream, sealMs, measuredMs: ms, perDay: scaled(counts, DAY_MS / ms) };
    }),
  );
  const perDay = streams.reduce((sum, s) => plusCounts(sum, s.perDay), NO_REQUESTS);
  const storedBytes = chain.timelines.reduce(
    (n, t) =>
      n + t.streams.reduce((m, s) => m + s.bytes, 0) + t.snapshots.reduce((m, s) => m + s.ownBytes, 0),
    0,
  );
  return {
    archive: chain.archive,
    url: chain.url,
    prices,
    storedBytes,
    streams,
    perDay,
    perMonth: monthOf(perDay, storedBytes, prices),
    model: { fanout, seals: MODEL_SEAL_MS.map((sealMs) => modelOf(sealMs, fanout, prices)) },
  };
};

/**
 * A seal is a create and a swap. A merge of `fanout` runs is a create, a swap, a read of each input and two to read back; there
 * is one for every `fanout - 1` seals, over all levels. What the merges of one round replaced goes with two swaps, a read of the
 * leases and a deletion. Segments of more than 64 KiB take some reads more, those of more than two parts some writes.
 */
export const modelPerSeal = (fanout: number): Pick<RequestCounts, 'puts' | 'gets' | 'deletes'> => ({
  puts: 2 + 2 / (fanout - 1) + 2 / fanout,
  gets: (fanout + 2) / (fanout - 1) + 1 / fanout,
  deletes: 1 / fanout,
});

const modelOf = (sealMs: number, fanout: number, prices: Prices): SealModel => {
  const seals = DAY_MS / sealMs;
  const perDay = scaled({ ...NO_REQUESTS, ...modelPerSeal(fanout) }, seals);
  return {
    sealMs,
    rpoMs: sealMs + LOCAL_SEAL_MS,
    perDay: { puts: perDay.puts, gets: perDay.gets, deletes: perDay.deletes },
    perMonth: monthOf(perDay, 0, prices),
  };
};

const monthOf = ({ puts, gets }: RequestCounts, storedBytes: number, prices: Prices): MonthlyCost => {
  const cost = {
    puts: (puts * MONTH_DAYS * prices.put) / 1000,
    gets: (gets * MONTH_DAYS * prices.get) / 1000,
    storage: (storedBytes / GB) * prices.gb,
  };
  return { ...cost, total: cost.puts + cost.gets + cost.storage };
};

const scaled = (counts: RequestCounts, factor: number): RequestCounts => ({
  puts: Math.round(counts.puts * factor),
  gets: Math.round(counts.gets * factor),
  deletes: Math.round(counts.deletes * factor),
  sentBytes: Math.round(counts.sentBytes * factor),
  receivedBytes: Math.round(counts.receivedBytes * factor),
});
