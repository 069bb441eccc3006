import { after } from 'node:test';
import { S3Store } from '../../engine/s3-store.ts';
import type { Quirks } from '../s3/gate.ts';
import { hasty, startProvider } from '../s3/provider.ts';
import { objectStoreConformance } from './object-store-conformance.ts';

const provider = await startProvider();
const { gate, faults } = provider;
after(() => provider.close());

const storeAt = (url: string) => new S3Store({ url, timing: hasty });
/** Short deadlines, so that what hangs does not hang long, and patience. */
const patient = { timeout: '0.5', tries: '40', requests: '32' };

const calm = async () => {
  gate.quirks = {};
  gate.messages.length = 0;
  faults.rate = 0;
  faults.planned = [];
  faults.meant = () => true;
};

const traits = { brokenId: 'archive-away', increments: 4, swaps: 70 } as const;
const openBroken = async () => ({
  store: storeAt('s3://bucket/p?endpoint=http://127.0.0.1:9&tries=2'),
  dispose: calm,
});

/** The suite against a provider with these habits. */
const conforms = (name: string, quirks: Quirks, rate = 0) =>
  objectStoreConformance(
    name,
    async () => {
      gate.quirks = quirks;
      faults.rate = rate;
      return { store: storeAt(provider.url(rate > 0 ? patient : {})), dispose: calm };
    },
    openBroken,
    traits,
  );

conforms('S3Store', {});
conforms('S3Store, a provider with short pages, bare ETags and losers that get 500', {
  pageKeys: 2,
  bareEtags: true,
  loserGets500: true,
  ignoresRanges: true,
});
conforms('S3Store, something happens to every eighth request', {}, 1 / 8);
objectStoreConformance(
  'S3Store, one writer at a provider without conditions',
  async () => ({ store: storeAt(provider.bareUrl({ 'single-writer': 'true' })), dispose: calm }),
  openBroken,
  traits,
);
