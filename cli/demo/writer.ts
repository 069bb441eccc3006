/**
 * A writer process of the demo: owns one engine, does what its parent tells it, one job after the other, and notes every
 * acknowledged change in a file of its own. Arguments: engine directory, notes file.
 */
import { type BatchOp, Engine, type EngineRecord } from '../../index.ts';
import { binsOf, type City, keyOf, loadCities, partitionOfCity } from './cities.ts';
import { type Noted, note } from './truth.ts';

export type Job =
  | { readonly kind: 'load'; readonly from: number; readonly to: number }
  | { readonly kind: 'edit'; readonly count: number; readonly seed: number }
  | { readonly kind: 'deploy'; readonly country: string }
  | { readonly kind: 'close' };

export type Answer =
  | { readonly kind: 'ready' }
  | { readonly kind: 'done'; readonly changes: number }
  | { readonly kind: 'progress'; readonly changes: number };

const BATCH = 100;
const [dir, notes] = process.argv.slice(2);
const engine = await Engine.open({ dir });
const cities = loadCities();
const say = (answer: Answer): void => void process.send?.(answer);

const recordOf = (city: City): Record<string, unknown> => ({
  name: city.name,
  names: { main: city.name, ...(city.altName ? { alternative: city.altName } : {}) },
  country: city.country,
  population: city.population,
  tags: [city.featureCode, city.adminCode, ...(city.population > 1_000_000 ? ['large'] : [])],
  location: JSON.stringify(city.loc),
});

/** What the writer believes of the cities that it has written: the truth that its notes are made of. */
const mine = new Map<number, Record<string, unknown>>();

const commit = async (
  changes: { id: number; op: BatchOp; record: Record<string, unknown> | null }[],
): Promise<number> => {
  if (changes.length === 0) return 0;
  const outcomes = await engine.batch(changes.map((c) => c.op));
  const lines: Noted[] = changes.map((c, i) => ({ ts: outcomes[i].ts, id: c.id, record: c.record }));
  note(notes, lines);
  for (const c of changes) {
    if (c.record) mine.set(c.id, c.record);
    else mine.delete(c.id);
  }
  return changes.length;
};

const owns = (city: City): boolean => engine.partitions.has(partitionOfCity(city.cityId));

const load = async (from: number, to: number): Promise<number> => {
  let changes = 0;
  let batch: Parameters<typeof commit>[0] = [];
  for (const city of cities.slice(from, to)) {
    if (!owns(city)) continue;
    batch.push({
      id: city.cityId,
      op: { op: 'put', key: keyOf(city.cityId), bins: binsOf(city) },
      record: recordOf(city),
    });
    if (batch.length < BATCH) continue;
    changes += await commit(batch);
    batch = [];
    say({ kind: 'progress', changes });
  }
  return changes + (await commit(batch));
};

/** A writer that took partitions over, or was started again, reads what it owns from the engine. */
const learn = async (): Promise<void> => {
  const byId = new Map(cities.map((c) => [c.cityId, c]));
  for await (const record of engine.scan()) {
    const id = Number(
      (record.key as NonNullable<EngineRecord['key']>).bytes.length === 8
        ? Buffer.from((record.key as NonNullable<EngineRecord['key']>).bytes).readBigInt64BE()
        : -1n,
    );
    const city = byId.get(id);
    if (!city || mine.has(id)) continue;
    mine.set(id, { ...recordOf(city), population: record.bins.population });
  }
};

/** People move, cities are renamed, a few disappear: good edits. */
const edit = async (count: number, seed: number): Promise<number> => {
  const ids = [...mine.keys()];
  let changes = 0;
  let n = seed;
  for (let i = 0; i < count; ) {
    const batch: Parameters<typeof commit>[0] = [];
    const used = new Set<number>();
    while (batch.length < BATCH && i < count) {
      i++;
      n = (Math.imul(n, 1664525) + 1013904223) >>> 0;
      const id = ids[n % ids.length];
      const old = mine.get(id);
      if (!old || used.has(id)) continue;
      used.add(id);
      if (n % 50 === 0) {
        batch.push({ id, op: { op: 'delete', key: keyOf(id) }, record: null });
        continue;
      }
      const population = (old.population as number) + (n % 997);
      batch.push({
        id,
        op: { op: 'put', key: keyOf(id), bins: { population } },
        record: { ...old, population },
      });
    }
    changes += await commit(batch);
    say({ kind: 'progress', changes });
  }
  return changes;
};

/** The bad deployment: zeroes populations and deletes a country, while good edits go on in between. */
const deploy = async (country: string): Promise<number> => {
  let changes = 0;
  const ids = [...mine.keys()];
  for (let at = 0; at < ids.length; at += BATCH) {
    const batch = ids.slice(at, at + BATCH).flatMap((id): Parameters<typeof commit>[0] => {
      const old = mine.get(id);
      if (!old) return [];
      if (old.country === country) return [{ id, op: { op: 'delete', key: keyOf(id) }, record: null }];
      return [
        { id, op: { op: 'put', key: keyOf(id), bins: { population: 0 } }, record: { ...old, population: 0 } },
      ];
    });
    changes += await commit(batch);
    if (at % (10 * BATCH) === 0) changes += await edit(10, at + 1);
  }
  return changes;
};

const run = (job: Job): Promise<number> => {
  switch (job.kind) {
    case 'load':
      return load(job.from, job.to);
    case 'edit':
      return learn().then(() => edit(job.count, job.seed));
    case 'deploy':
      return learn().then(() => deploy(job.country));
    case 'close':
      return engine.close().then(() => 0);
    default:
      return job satisfies never;
  }
};

process.on('message', async (job: Job) => {
  const changes = await run(job);
  say({ kind: 'done', changes });
  if (job.kind === 'close') process.disconnect();
});
// without its parent it has nothing to do; what is acknowledged is safe
process.on('disconnect', () => process.exit());
say({ kind: 'ready' });
