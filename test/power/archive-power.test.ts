import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DirectoryStore } from '../../engine/directory-store.ts';
import { isPitrError } from '../../engine/errors.ts';
import type { Snapshot } from '../../snapshot/manifest.ts';
import { listSnapshots, publishSnapshot, readSnapshot } from '../../snapshot/snapshots.ts';
import { Archive } from '../../wal/archive.ts';
import { emptyHead, type Head, runOf } from '../../wal/catalog.ts';
import { encodeDocument } from '../../wal/document.ts';
import type { Rng } from '../model/rng.ts';
import { errnoError, MemoryFiles } from '../wal/memory-files.ts';
import { statesAfter } from './power-cut.ts';
import { type Moment, powerRng, record, STATES_MAX } from './power-support.ts';

const DIR = '/disk/archive';
const TIMELINE = '0123456789abcdef';
const clock = { nowMs: () => 1_700_000_000_000 };

/** What is promised and what was merely tried, of one object or one swappable name. */
interface Value {
  /** Contents that it may have, oldest first; '' is absent. The last one that was acknowledged, and what was tried after it. */
  readonly may: readonly string[];
}
type Owed = ReadonlyMap<string, Value>;

/** An archiver in small: every call is noted before it is made and when it is acknowledged. */
class Writer {
  readonly #owed = new Map<string, Value>();

  owed = (): Owed => new Map(this.#owed);

  /** Until it returns, `name` may be what it was or `content`. */
  async #tries(name: string, content: string, call: () => Promise<unknown>): Promise<void> {
    this.#owed.set(name, { may: [...(this.#owed.get(name)?.may ?? ['']), content] });
    await call();
    this.#owed.set(name, { may: [content] });
  }

  create(store: DirectoryStore, name: string, content: string): Promise<void> {
    return this.#tries(name, content, () => store.create(name, Buffer.from(content)));
  }

  delete(store: DirectoryStore, name: string): Promise<void> {
    return this.#tries(name, '', async () => {
      assert.deepEqual(await store.delete([name]), []);
    });
  }

  async run(files: MemoryFiles): Promise<void> {
    const store = storeOn(files);
    const archive = await Archive.openOrCreate(store, { clock });
    await this.#tries('timelines', 'one', () =>
      archive.updateTimelines((all) => ({ ...all, timelines: [] as never })),
    );
    let tag: string | undefined;
    let head = headOf(archive, 0);
    for (let n = 1; n <= 4; n++) {
      // a segment of several sectors, then the head that names it
      const name = segment(n);
      await this.create(store, name, segmentContent(n));
      head = withRun(head, n);
      const next = head;
      await this.#tries(archive.headName(TIMELINE, 'main'), String(n), async () => {
        tag = await archive.swapHead(tag, next);
      });
      if (n % 2 === 0) {
        const s = snapshotOf(archive, n);
        await this.#tries(`snapshot ${s.id}`, 'there', () => publishSnapshot(archive, s));
      }
      if (n === 3) await this.delete(store, 'scratch/2');
      await this.create(store, `scratch/${n}`, 'x'.repeat(n * 700));
    }
  }
}

const storeOn = (files: MemoryFiles): DirectoryStore => new DirectoryStore({ dir: DIR, files });
const segment = (n: number): string => `segments/${TIMELINE}/main/L0/${n}.seg`;
const segmentContent = (n: number): string => `segment ${n} `.repeat(90);

const headOf = (archive: Archive, n: number): Head => ({
  ...emptyHead({
    archive: archive.id,
    timeline: TIMELINE,
    stream: 'main',
    engineId: 'e'.repeat(32),
    generation: 1,
  }),
  frontier: { ts: n, lsn: n },
});

const withRun = (head: Head, n: number): Head => ({
  ...head,
  frontier: { ts: n, lsn: n },
  runs: [
    ...head.runs,
    runOf(0, n, n + 1, [
      {
        name: segment(n),
        bytes: segmentContent(n).length,
        crc: '00000000',
        rows: 1,
        tsMin: n,
        tsMax: n,
        partitions: { start: 0, end: 4096 },
        events: 0,
      },
    ]),
  ],
});

const snapshotOf = (archive: Archive, n: number): Snapshot => ({
  archive: archive.id,
  id: `s${n}`,
  label: `label ${n}`,
  timeline: TIMELINE,
  kind: 'full',
  createdMs: 1,
  coordinated: true,
  startTs: 0,
  endTs: n,
  logAfterTs: n,
  digests: null,
  positions: { main: n },
  parent: null,
  segments: [],
  log: [{ stream: 'main', lsnStart: 1, lsnEnd: n + 1 }],
  events: [],
  records: n,
});

/** What the archive has of `name`, in the words of {@link Writer}. */
const found = async (archive: Archive | undefined, store: DirectoryStore, name: string): Promise<string> => {
  if (name.startsWith('snapshot ')) {
    const entry = archive && (await listSnapshots(archive)).find((s) => `snapshot ${s.id}` === name);
    // an index never names a manifest that is not there
    if (archive && entry) await readSnapshot(archive, entry);
    return entry ? 'there' : '';
  }
  if (name === 'timelines') return archive && (await store.readSwap(name)) ? 'one' : '';
  if (name.startsWith('heads/')) {
    const head = (await archive?.head(TIMELINE, 'main'))?.value;
    // A4: nor a head a segment
    for (const { segments } of head?.runs ?? [])
      for (const s of segments) assert.equal((await store.read(s.name)).length, s.bytes);
    return head ? String(head.frontier.lsn) : '';
  }
  return store.read(name).then(
    (bytes) => bytes.toString(),
    (error) => {
      if (isPitrError(error, 'object-not-found')) return '';
      throw error;
    },
  );
};

/** Nothing acknowledged is lost, nothing is half there, and work goes on. */
const check = async (files: MemoryFiles, owed: Owed): Promise<void> => {
  const store = storeOn(files);
  const archive = await Archive.open(store, { clock }).catch((error) => {
    if (isPitrError(error, 'archive-not-found') && !owed.has('timelines')) return undefined;
    throw error;
  });
  for (const [name, { may }] of owed) {
    const content = await found(archive, store, name);
    assert.ok(may.includes(content), `${name} is "${content.slice(0, 40)}"`);
  }
  const listed = await store.list('').catch((error) => {
    if (!archive && isPitrError(error, 'archive-not-found')) return [];
    throw error;
  });
  for (const { name, bytes } of listed) assert.equal((await store.read(name)).length, bytes);
  // it goes on where it was: what was interrupted can be done again
  const open = archive ?? (await Archive.openOrCreate(store, { clock }));
  const before = await open.head(TIMELINE, 'main');
  const n = (before?.value.frontier.lsn ?? 0) + 1;
  await store.create(segment(n), Buffer.from(segmentContent(n))).catch((error) => {
    assert.ok(isPitrError(error, 'object-exists'));
  });
  await open.swapHead(before?.tag, withRun(before?.value ?? headOf(open, 0), n));
  await publishSnapshot(open, { ...snapshotOf(open, 9), label: null });
  const again = await Archive.open(storeOn(files), { clock });
  assert.equal((await again.head(TIMELINE, 'main'))?.value.frontier.lsn, n);
  assert.ok((await listSnapshots(again)).some((s) => s.id === 's9'));
};

const checkStates = async (moment: Moment<Owed>, limit: number, rng: Rng): Promise<number> => {
  let states = 0;
  for (const content of statesAfter(moment.cut, limit, rng)) {
    states++;
    await check(new MemoryFiles(content, moment.cut.dirs), moment.owed).catch((cause) => {
      throw new Error(`${moment.when}, state ${states}: ${cause.message}`, { cause });
    });
  }
  return states;
};

test('D1 D2 D3 A4: a directory archive after every power cut of a run: no acknowledged object or swap lost, none half there', async () => {
  const rng = powerRng('archive');
  const writer = new Writer();
  const files = new MemoryFiles();
  const moments = await record(files, writer.owed, () => writer.run(files));
  let states = 0;
  for (const moment of moments) states += await checkStates(moment, STATES_MAX, rng);
  console.log(`archive: ${moments.length} moments, ${states} states`);
  assert.ok(moments.length > 100 && states > 1000);
});

test('D3: a power cut after another process has gone on with what a killed one left', async () => {
  const rng = powerRng('archive, killed');
  const first = new Writer();
  const files = new MemoryFiles();
  const moments = await record(files, first.owed, () => first.run(files));
  let states = 0;
  for (const { killed, owed, when } of moments) {
    const again = killed();
    const store = storeOn(again);
    const promised = new Map(owed);
    const archive = await Archive.openOrCreate(store, { clock });
    const head = await archive.head(TIMELINE, 'main');
    const n = (head?.value.frontier.lsn ?? 0) + 1;
    await store.create(segment(n), Buffer.from(segmentContent(n))).catch(() => undefined);
    await archive.swapHead(head?.tag, withRun(head?.value ?? headOf(archive, 0), n));
    promised.set(archive.headName(TIMELINE, 'main'), { may: [String(n)] });
    promised.set('timelines', promised.get('timelines') ?? { may: [''] });
    const moment = { cut: again.cut(), killed, owed: promised, when: `${when}, then a second process` };
    states += await checkStates(moment, Math.min(12, STATES_MAX), rng);
  }
  console.log(`archive, killed: ${states} states`);
  assert.ok(states > 500);
});

test('A2: a head whose sync failed, and which is there when it is read back, is not lost by a power cut', async () => {
  const files = new MemoryFiles();
  const archive = await Archive.openOrCreate(storeOn(files), { clock });
  const tag = await archive.swapHead(undefined, withRun(headOf(archive, 0), 1));
  let failed = 0;
  files.before = (operation, path) => {
    if (operation !== 'syncDir' || !path.endsWith('/main') || failed++ > 0) return;
    throw errnoError('EIO');
  };
  await archive.swapHead(tag, withRun(headOf(archive, 0), 2));
  assert.ok(failed > 0);
  for (const content of statesAfter(files.cut(), STATES_MAX, powerRng('failed sync'))) {
    const again = await Archive.open(storeOn(new MemoryFiles(content, files.cut().dirs)), { clock });
    assert.equal((await again.head(TIMELINE, 'main'))?.value.frontier.lsn, 2);
  }
});

test('D4: the highest number of a swapped object after power cuts at every moment of the swaps that trim', async () => {
  const rng = powerRng('swaps');
  const files = new MemoryFiles();
  const store = storeOn(files);
  let tag: string | undefined;
  let acknowledged = 0;
  const swaps = async (until: number): Promise<void> => {
    for (let n = acknowledged + 1; n <= until; n++) {
      tag = await store.swap('value', tag, encodeDocument('page', n));
      acknowledged = n;
    }
  };
  await swaps(66);
  const moments = await record(
    files,
    () => acknowledged,
    () => swaps(72),
  );
  let states = 0;
  for (const { cut, owed, when } of moments)
    for (const content of statesAfter(cut, Math.min(12, STATES_MAX), rng)) {
      states++;
      const found = await storeOn(new MemoryFiles(content, cut.dirs)).readSwap('value');
      const value = [owed, owed + 1].find((n) => found?.bytes.equals(encodeDocument('page', n)));
      assert.ok(value !== undefined && Number(found?.tag) === value, `${when}: ${found?.tag}, owed ${owed}`);
    }
  assert.ok(states > 100, String(states));
});
