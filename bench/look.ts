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
  /** Requests that waited for the answer of another one: what the latency is multiplied by. */
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

export const looksJob = jobOf(import.meta.url, 'looks');
export const looks = async ({ endpoint }: { readonly endpoint: string }): Promise<LookFigures> => {
  const bucket = new BucketAt(endpoint);
  const url = bucket.url(COPY);
  const figures = {} as Record<Look, LookFigure>;
  for (const what of LOOKS) {
    await bucket.begin(0);
    // the SDK is loaded and connected, the code has run
    await DO[what](url);
    await bucket.begin(LATENCY_MS);
    const { seconds } = await timed(() => DO[what](url));
    const traffic = await bucket.figures();
    figures[what] = { seconds, requests: requestsOf(traffic), roundTrips: traffic.waves };
  }
  return figures;
};

/** Looks at the copy of the archive that restores have left in the bucket. */
export const looksOf = async ({ endpoint }: BenchBucket): Promise<LookFigures> =>
  (await isolated<LookFigures>(looksJob, { endpoint })).value;
