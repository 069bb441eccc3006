/**
 * `npm run bench -- [NAME] [options]`: the benchmark named, or `core`. A new one is one line here; it gets the arguments after its
 * name, and prints its result on stdout.
 */
type Bench = (args: string[]) => Promise<void>;

const BENCHES: Readonly<Record<string, () => Promise<Bench>>> = {
  core: async () => (await import('./core.ts')).benchCore,
  scaling: async () => (await import('./scaling.ts')).benchScaling,
  'log-length': async () => (await import('./log-length.ts')).benchLogLength,
  report: async () => (await import('./report.ts')).benchReport,
  archiver: async () => (await import('./archiver.ts')).benchArchiver,
  commits: async () => (await import('./commits.ts')).benchCommits,
  merge: async () => (await import('./merge.ts')).benchMerge,
  snapshot: async () => (await import('./snapshot.ts')).benchSnapshot,
  archive: async () => (await import('./archive.ts')).benchArchive,
  endpoint: async () => (await import('./endpoint.ts')).benchEndpoint,
  aerospike: async () => (await import('./aerospike.ts')).benchAerospike,
  postgres: async () => (await import('./peers/postgres.ts')).benchPostgres,
};

const [first = 'core', ...rest] = process.argv.slice(2);
const isNamed = !first.startsWith('-');
const name = isNamed ? first : 'core';
if (!Object.hasOwn(BENCHES, name)) {
  process.stderr.write(`no benchmark "${name}"; there are: ${Object.keys(BENCHES).join(', ')}\n`);
  process.exit(2);
}
const run = await BENCHES[name]();
await run(isNamed ? rest : process.argv.slice(2));
