import fc from 'fast-check';
import { Subject, addressOf } from './test/aerospike/subject.ts';
import { step, shown } from './test/aerospike/request-arbitrary.ts';
import { message, type Reply } from './test/aerospike/wire-bytes.ts';
const real = await Subject.open(), ours = await Subject.openOurs();
const w = [await real.connect(), await ours.connect()] as const;
const answer = (r: Reply) => JSON.stringify([r.code, r.generation, r.voidTime === 0 ? 'n' : 'e', ...r.ops]);
const classes = new Map<string, string[]>();
let n = 0;
for (const steps of fc.sample(fc.array(step, { minLength: 1, maxLength: 12 }), { numRuns: +(process.argv[2] ?? 1500), seed: +(process.argv[3] ?? 1) })) {
  const records = [0,1,2].map(() => addressOf(real.fresh().digest, real.set));
  for (const [i, s] of steps.entries()) {
    const req = message({ ...s.parts, fields: [...records[s.record]!.fields, ...(s.parts.fields ?? [])] });
    const [a, b] = [await w[0].call(req), await w[1].call(req)]; n++;
    if (answer(a) !== answer(b)) {
      const key = `${s.kind} real ${a.code} ours ${b.code} ${a.code === b.code ? (a.generation !== b.generation ? 'gen' : a.ops.length !== b.ops.length ? 'nops' : 'ops') : ''}`;
      const l = classes.get(key) ?? []; l.push(`real ${answer(a)} ours ${answer(b)} :: ${shown([s])}\n      prior: ${shown(steps.slice(0,i).filter(x => x.record === s.record)).replaceAll('\n', ' | ')}`); classes.set(key, l);
      break;
    }
  }
}
console.log(n, 'requests');
for (const [k, l] of [...classes].sort((a, b) => b[1].length - a[1].length)) { console.log(`== ${k}: ${l.length}`); for (const x of l.sort((a, b) => a.length - b.length).slice(0, 4)) console.log('   ', x.slice(0, 900)); }
await ours.close(); await real.close();
