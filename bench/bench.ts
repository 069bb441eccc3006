/** `npm run bench -- [NAME] [options]`: every benchmark, or the one named. */
const BENCHES: Readonly<Record<string, () => Promise<(args: string[]) => Promise<void>>>> = {
  commits: async () => (await import('./commits.ts')).benchCommits,
  merge: async () => (await import('./merge.ts')).benchMerge,
};

const [name, ...rest] = process.argv.slice(2);
const known = name !== undefined && Object.hasOwn(BENCHES, name);
if (name !== undefined && !known && !name.startsWith('-')) {
  process.stderr.write(`no benchmark "${name}"; there are: ${Object.keys(BENCHES).join(', ')}\n`);
  process.exit(2);
}
for (const [key, load] of Object.entries(BENCHES)) {
  if (known && key !== name) continue;
  await (await load())(known ? rest : process.argv.slice(2));
}
