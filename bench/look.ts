import { keyOf } from '../cli/bench/database.ts';
import { isolated, jobOf } from '../cli/bench/isolate.ts';
import { timed } from '../cli/bench/measure.ts';
import { readStatus } from '../cli/status.ts';
import { readAt } from '../restore/read-at.ts';
import { resolveTarget } from '../restore/target.ts';
import { inspectChain } from '../snapshot/chain.ts';
import { ArchiveView } from '../snapshot/view.ts';
import { Archive } from '../wal/archive.ts';
import { type BenchBucket, BucketAt } from './bucket/bench-bucket.ts';
import { requestsOf } from './bucket/traffic.ts';
import { COPY } from './store-restore.ts';

export const LOOKS = ['open', 'status', 'chain', 'get'] as const;
type Look = (typeof LOOKS)[number];

/** What a command waits for. */
export interface LookFigure {
  /** At 50 ms a request, the archive opened anew; without the start of the process. */
  readonly seconds: number;
  readonly requests: number;
  /** Requests that had to wait for the answer of another one: what the latency of one is multiplied by. */
  readonly roundTrips: number;
}
export type LookFigures = Readonly<Record<Look, LookFigure>>;

const LATENCY_MS = 50;

/** `open`: everything that is read of an archive before anything is planned. */
const DO: Readonly<Record<Look, (url: string) => Promise<unknown>>> = {
  open: async (url) => ArchiveView.read(await Archive.open(url)),
  status: async (url) => readStatus(await Archive.open(url), { dirs: [], maxLagMs: 10_000 }),
  chain: async (url) => inspectChain(await Archive.open(url)),
  get: async (url) => {
    const view = await ArchiveView.read(await Archive.open(url));
    const { ts } = await resolveTarget(view, 'latest', Date.now());
    return readAt(view, keyOf(1), ts);
  },
};

/** Seconds and requests of each look. */
type Looked = Readonly<Record<Look, { readonly seconds: number; readonly requests: number }>>;

export const looksJob = jobOf(import.meta.url, 'looks');
export const looks = async ({
  endpoint,
  latencyMs,
}: {
  readonly endpoint: string;
  readonly latencyMs: number;
}): Promise<Looked> => {
  const bucket = new BucketAt(endpoint);
  const url = bucket.url(COPY);
  const looked = {} as Record<Look, Looked[Look]>;
  for (const what of LOOKS) {
    await bucket.begin(0);
    // the SDK is loaded and connected, the code has run
    await DO[what](url);
    await bucket.begin(latencyMs);
    const { seconds } = await timed(() => DO[what](url));
    looked[what] = { seconds, requests: requestsOf(await bucket.figures()) };
  }
  return looked;
};

/** Looks at the copy of the archive that restores have left in the bucket. */
export const looksOf = async ({ endpoint }: BenchBucket): Promise<LookFigures> => {
  const run = async (latencyMs: number) => (await isolated<Looked>(looksJob, { endpoint, latencyMs })).value;
  const [near, far] = [await run(0), await run(LATENCY_MS)];
  const figures = {} as Record<Look, LookFigure>;
  for (const what of LOOKS) {
    const waitedMs = (far[what].seconds - near[what].seconds) * 1000;
    figures[what] = { ...far[what], roundTrips: Math.round(waitedMs / LATENCY_MS) };
  }
  return figures;
};
