/**
 * Random work on a cluster, polls in between and while it goes on, against a plain map of every version that there was. At every frontier that
 * the log states, each record is as the map has it, or said to be inexact; windows hold what truly happened.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import type { WireKey } from '../../engine/aerospike/client/command.ts';
import { LUT_OP, lutMsAt, writeOp } from '../../engine/aerospike/client/record.ts';
import type { Scan } from '../../engine/aerospike/client/scan.ts';
import type { LogVersion } from '../../engine/commit-log.ts';
import { isPitrError, PitrError } from '../../engine/errors.ts';
import { byDigest, type LogContent, recordAt, textOf } from './log-state.ts';
import { intBin, NAMESPACE, World } from './world.ts';

const RUNS = Number(process.env.PITR_POLL_RUNS ?? 4);
const SETS = ['a', 'b', ''];
const KEYS = 14;

type Op =
  | { readonly do: 'put'; readonly key: number; readonly ttl: number; readonly withKey: boolean }
  | { readonly do: 'touch' | 'delete'; readonly key: number }
  | { readonly do: 'recreate'; readonly key: number }
  | { readonly do: 'truncate'; readonly set: number; readonly backMs: number }
  | { readonly do: 'step'; readonly ms: number };
type Step =
  | { readonly do: 'work'; readonly op: Op }
  | { readonly do: 'poll'; readonly meanwhile: readonly Op[] }
  /** A poll of which the n-th scan or batch fails; perhaps the next one is another poller's. */
  | { readonly do: 'fail'; readonly nth: number; readonly isRenewed: boolean }
  | { readonly do: 'reopen' }
  | { readonly do: 'restart' };

const key = fc.nat(KEYS - 1);
const op = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('put' as const),
      key,
      ttl: fc.constantFrom(0, 0, 0, 1, 2, 30),
      withKey: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('touch' as const, 'delete' as const), key }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('delete' as const), key }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('recreate' as const), key }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('truncate' as const),
      set: fc.nat(2),
      backMs: fc.constantFrom(0, 0, 700),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('step' as const), ms: fc.constantFrom(1, 10, 400, 1000, 3100) }),
  },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: op.map((o) => ({ do: 'work' as const, op: o })) },
  {
    weight: 5,
    arbitrary: fc.array(op, { maxLength: 5 }).map((meanwhile) => ({ do: 'poll' as const, meanwhile })),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('fail' as const),
      nth: fc.integer({ min: 1, max: 6 }),
      isRenewed: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'reopen' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'restart' as const }) },
);

/** By how much a clock of whole seconds may be behind itself. */
const COARSE_MS = 1000;
/** Connections break this long after the command, ms. */
const RESTART_MS = 60;

/** What a record was from an instant on; without text: absent. */
interface Truth {
  readonly ms: number;
  readonly lutMs: number;
  readonly text: string | undefined;
  readonly voidTimeS: number;
}

/** A cluster and the map of all that was in it. */
class Judged {
  readonly world: World;
  readonly truth = new Map<string, Truth[]>();
  /** From when to when each poll looked. */
  readonly polls: { readonly begunMs: number; readonly endedMs: number }[] = [];
  readonly #keys = new Map<string, { readonly set: string }>();
  /** What a cold restart brings back: the last that was removed of each record. */
  readonly #removed = new Map<string, Truth>();
  #value = 0;

  constructor(world: World) {
    this.world = world;
  }

  async work(o: Op): Promise<void> {
    const { client, clock } = this.world;
    switch (o.do) {
      case 'put':
        return this.#put(this.#keyOf(o.key, o.withKey), o.ttl);
      case 'touch': {
        const now = this.#now(o.key);
        if (now?.text === undefined) return;
        return this.#put(this.#keyOf(o.key, false), 0, true);
      }
      case 'delete':
        return this.#delete(o.key);
      case 'recreate':
        await this.#delete(o.key);
        return this.#put(this.#keyOf(o.key, false), 0);
      case 'truncate': {
        const set = SETS[o.set];
        const cutoff = clock.nowMs() - o.backMs;
        // the fault keeps what the server's disk would have, by the command's own time
        const isKept = ({ lutMs }: Truth): boolean => lutMs < cutoff;
        const lut = o.backMs === 0 ? '' : `;lut=${BigInt(cutoff) * 1_000_000n}`;
        const [node] = client.nodes;
        const command =
          set === ''
            ? `truncate-namespace:namespace=${NAMESPACE}`
            : `truncate:namespace=${NAMESPACE};set=${set}`;
        const said = [...(await client.info(node, [`${command}${lut}`])).values()];
        assert.deepEqual(said, ['ok']);
        // the server says what its clock was; ours stands still meanwhile
        const real = o.backMs === 0 ? await this.#cutoff(set) : cutoff;
        for (const [id, list] of this.truth) {
          const last = list[list.length - 1];
          const isIn = set === '' || this.#keys.get(id)?.set === set;
          if (isIn && last?.text !== undefined && last.lutMs < real) {
            if (isKept(last)) this.#removed.set(id, last);
            list.push({ ms: Math.max(clock.nowMs(), last.lutMs), lutMs: 0, text: undefined, voidTimeS: 0 });
          }
        }
        clock.step(1);
        return;
      }
      case 'step':
        clock.step(o.ms);
        return;
      default:
        o satisfies never;
    }
  }

  /** A cold restart: connections break, and what was removed is there again as it was. */
  async restart(): Promise<void> {
    const { client, clock } = this.world;
    clock.step(1);
    await client.info(client.nodes[0], ['pitr-restart']);
    for (const [id, was] of this.#removed) {
      const list = this.truth.get(id) ?? [];
      const last = list.at(-1);
      const isThere = last?.text !== undefined && !expired(last, clock.nowMs());
      if (isThere || expired(was, clock.nowMs())) continue;
      list.push({ ...was, ms: clock.nowMs() });
    }
    this.#removed.clear();
    await sleep(RESTART_MS);
    // until nothing is left of the sockets that broke
    for (let n = 0; n < KEYS; n++) await client.exists(this.#keyOf(n, false)).catch(() => client.tend());
    clock.step(4000);
  }

  async #cutoff(set: string): Promise<number> {
    const text = (await this.world.info('smd-show:module=truncate'))[0];
    const name = set === '' ? NAMESPACE : `${NAMESPACE}|${set}`;
    const found = text.split(';').find((entry) => entry.startsWith(`${name}=`));
    return Number(found?.split('=')[1]) + 1_262_304_000_000;
  }

  async #put(wire: WireKey, ttl: number, isTouch = false): Promise<void> {
    const { client, clock } = this.world;
    const bin = intBin('v', isTouch ? -1 : ++this.#value);
    const list = this.#list(wire);
    const last = list.at(-1);
    if (isTouch && !(await client.touch(wire, { ttl: ttl === 0 ? 'never' : ttl }))) return;
    const { answers, voidTimeS } = isTouch
      ? await client.operate(wire, [LUT_OP]).then((r) => ({ ...r, answers: [undefined, ...r.answers] }))
      : await client.operate(wire, [writeOp('v', bin), LUT_OP], {
          mode: 'replace',
          ttl: ttl === 0 ? 'never' : ttl,
        });
    const lutMs = lutMsAt(Buffer.from(answers[1]!.bytes), 0);
    const record = await client.get(wire);
    assert(record);
    // what the server has, by another read than that of a poll: key as it was sent first
    const isAlive = last?.text !== undefined && !expired(last, clock.nowMs());
    const before = isAlive ? (last?.text ?? '').split(' ')[0] : '';
    const keyText =
      before || (wire.key ? `${wire.key.type}:${Buffer.from(wire.key.bytes).toString('hex')}` : '');
    const bins = record.bins.map((b) => `${b.name}:${b.type}:${Buffer.from(b.bytes).toString('hex')}`);
    list.push({ ms: lutMs, lutMs, text: `${keyText} ${bins.join(' ')}`, voidTimeS });
  }

  async #delete(n: number): Promise<void> {
    const wire = this.#keyOf(n, false);
    const list = this.#list(wire);
    const ms = this.world.clock.nowMs();
    const last = list.at(-1);
    if (!(await this.world.client.delete(wire))) return;
    if (last?.text !== undefined) this.#removed.set(idOf(wire), last);
    list.push({ ms: Math.max(ms, list.at(-1)?.lutMs ?? 0), lutMs: 0, text: undefined, voidTimeS: 0 });
  }

  #keyOf(n: number, withKey: boolean): WireKey {
    const bare = this.world.key(n, SETS[n % 3]);
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64BE(BigInt(n));
    return withKey ? { ...bare, key: { type: 1, bytes } } : bare;
  }

  #list(wire: WireKey): Truth[] {
    const id = idOf(wire);
    this.#keys.set(id, { set: wire.set as string });
    let list = this.truth.get(id);
    if (!list) {
      list = [];
      this.truth.set(id, list);
    }
    return list;
  }

  #now(n: number): Truth | undefined {
    const last = this.#list(this.#keyOf(n, false)).at(-1);
    return last && !expired(last, this.world.clock.nowMs()) ? last : undefined;
  }
}

const idOf = ({ digest }: WireKey): string => `${NAMESPACE} ${Buffer.from(digest).toString('hex')}`;

const expired = ({ voidTimeS }: Truth, ms: number): boolean =>
  voidTimeS !== 0 && voidTimeS < Math.floor(ms / 1000);

const truthAt = (list: readonly Truth[], ts: number): Truth | undefined => {
  const at = list.filter(({ ms }) => ms <= ts).at(-1);
  return at?.text === undefined || expired(at, ts) ? undefined : at;
};

/** Compares at every frontier; returns how many states were said to be exact, and how many not. */
const judge = (judged: Judged, content: LogContent): { exact: number; inexact: number } => {
  const logged = byDigest(content.versions);
  const counts = { exact: 0, inexact: 0 };
  for (const id of logged.keys()) assert(judged.truth.has(id), `a record that never was: ${id}`);
  for (const [id, list] of judged.truth) {
    const versions = logged.get(id) ?? [];
    for (const { ts } of content.clocks) {
      const said = recordAt(content, versions, ts);
      const { record, isInexact } = said;
      const truth = truthAt(list, ts);
      counts[isInexact ? 'inexact' : 'exact']++;
      if (isInexact) continue;
      if (record?.text !== truth?.text && isUnseen(judged, list, ts, said)) continue;
      const what = `${id} at ${ts}: ${JSON.stringify({ list, versions: versions.map(shown) }, undefined, 1)}`;
      assert.equal(record?.text, truth?.text, what);
      if (record && truth) assert.equal(record.voidTimeS, truth.voidTimeS, what);
    }
    for (const version of versions) judgeWindow(list, version, id);
  }
  return counts;
};

/** From when to when a record was there, as one version, or was not. */
interface Span {
  readonly fromMs: number;
  readonly toMs: number;
  /** Undefined: it was not. */
  readonly text: string | undefined;
  readonly hasExpired: boolean;
}

const spansOf = (list: readonly Truth[]): Span[] => {
  const spans: Span[] = [{ fromMs: 0, toMs: list[0]?.ms ?? Infinity, text: undefined, hasExpired: false }];
  for (const [i, { ms, text, voidTimeS }] of list.entries()) {
    const toMs = list[i + 1]?.ms ?? Infinity;
    const voidMs = voidTimeS === 0 ? Infinity : (voidTimeS + 1) * 1000;
    const hasExpired = text !== undefined && voidMs < toMs;
    spans.push({ fromMs: ms, toMs: Math.min(toMs, voidMs), text, hasExpired });
    if (hasExpired) spans.push({ fromMs: voidMs, toMs, text: undefined, hasExpired: false });
  }
  return spans;
};

/**
 * What no poll can see: a change that is undone, by a delete or because the record expires, before another poll looks, or as the second of
 * its void time passes: then its count is a range.
 */
const isUnseen = (
  { polls }: Judged,
  list: readonly Truth[],
  ts: number,
  { record, untilMs, expiresMs, lastText }: ReturnType<typeof recordAt>,
): boolean => {
  const said = record?.text;
  const spans = spansOf(list);
  const isSaid = (span: Span): boolean => span.text === said || (!record && span.text === lastText);
  let first = spans.findLastIndex(({ fromMs }) => fromMs <= ts);
  let last = first;
  while (first > 0 && !isSaid(spans[first - 1])) first--;
  while (last + 1 < spans.length && !isSaid(spans[last + 1])) last++;
  const fromMs = spans[first].fromMs;
  const toMs = Math.min(spans[last].toMs, untilMs);
  const run = spans.slice(first, last + 1).filter((span) => span.fromMs <= toMs);
  const isUndone = said === undefined ? spans[last].toMs <= untilMs : run.some((s) => s.text === undefined);
  const isBetween = !polls.some(
    ({ begunMs, endedMs }) => fromMs < begunMs && endedMs < toMs && endedMs + COARSE_MS < expiresMs,
  );
  return isBetween && (isUndone || run.some(({ hasExpired }) => hasExpired));
};

const shown = ({ ts, generation, image, seen }: LogVersion) => ({
  ts,
  generation,
  text: image && textOf(image),
  seen,
});

/** A version with an exact LUT was there then; a delete, or a version with a window, lies in it. */
const judgeWindow = (list: readonly Truth[], version: LogVersion, id: string): void => {
  const { image, seen, ts } = version;
  const what = `${id}: ${JSON.stringify({ list, version: shown(version) }, undefined, 1)}`;
  const start = seen?.windowStartMs ?? ts;
  const end = seen?.windowEndMs ?? ts;
  if (image) {
    const lut = seen?.lutMs ?? ts;
    const isThere = list.some(
      (t) => t.text === textOf(image) && (t.lutMs === lut || (start < t.lutMs && t.lutMs <= end)),
    );
    assert(isThere, what);
  } else if (start < end) {
    // gone, or expired long ago
    const isGone = spansOf(list).some((s) => s.text === undefined && s.fromMs >= start && s.fromMs <= end);
    assert(isGone, what);
  }
};

/** Does the ops one by one while a poll goes on: before its scans and reads. */
const interleave = (judged: Judged, ops: readonly Op[]): (() => Promise<void>) => {
  const { client } = judged.world;
  const left = [...ops];
  const { scan, batch } = client;
  // one at a time, although groups are polled side by side
  let last = Promise.resolve();
  const next = (): Promise<void> => {
    last = last.then(async () => {
      const o = left.shift();
      if (o) await judged.work(o);
    });
    return last;
  };
  client.scan = (options) => {
    const real = scan.call(client, options);
    const late = async function* () {
      await next();
      yield* real;
      await next();
    };
    return {
      [Symbol.asyncIterator]: late,
      get totals() {
        return real.totals;
      },
    } as unknown as Scan;
  };
  client.batch = async (...args) => {
    await next();
    return batch.apply(client, args);
  };
  return async () => {
    client.scan = scan;
    client.batch = batch;
    while (left.length > 0) await next();
  };
};

/** Lets the n-th scan or batch from now on fail; returns how to end that. */
const failAt = ({ client }: World, nth: number): (() => void) => {
  const { scan, batch } = client;
  let calls = 0;
  const count = (): void => {
    if (++calls === nth) throw new PitrError('aerospike-timeout', { seconds: 1 });
  };
  client.scan = (options) => {
    count();
    return scan.call(client, options);
  };
  client.batch = async (...args) => {
    count();
    return batch.apply(client, args);
  };
  return () => {
    client.scan = scan;
    client.batch = batch;
  };
};

const run = async (nodes: number, steps: readonly Step[]): Promise<{ exact: number; inexact: number }> => {
  const world = await World.open({
    server: { nodes },
    poller: { groups: 3, sweepMs: 20_000, forgetExpiredMs: 4000, concurrency: 2 },
  });
  try {
    world.faults.resurrects = true;
    await world.begin();
    const judged = new Judged(world);
    const look: Step[] = [
      { do: 'work', op: { do: 'step', ms: 1500 } },
      { do: 'poll', meanwhile: [] },
    ];
    // the copy is the beginning, whatever happens then
    for (const s of [...look, ...steps, ...look])
      switch (s.do) {
        case 'work':
          world.clock.step(1);
          await judged.work(s.op);
          break;
        case 'poll': {
          world.clock.step(1);
          const begunMs = world.clock.nowMs();
          const finish = interleave(judged, s.meanwhile);
          try {
            await world.poller.poll();
            judged.polls.push({ begunMs, endedMs: world.clock.nowMs() });
          } finally {
            await finish();
          }
          break;
        }
        case 'fail': {
          world.clock.step(1);
          const begunMs = world.clock.nowMs();
          const finish = failAt(world, s.nth);
          const isDone = await world.poller.poll().then(
            () => true,
            (error) => {
              if (!isPitrError(error, 'aerospike-timeout')) throw error;
              return false;
            },
          );
          finish();
          if (isDone) judged.polls.push({ begunMs, endedMs: world.clock.nowMs() });
          if (s.isRenewed) world.renew();
          break;
        }
        case 'reopen':
          await world.reopen();
          break;
        case 'restart':
          await judged.restart();
          break;
        default:
          s satisfies never;
      }
    return judge(judged, await world.log());
  } finally {
    await world.close();
  }
};

describe('polls against a map of all versions', () => {
  for (const nodes of [1, 3])
    test(`${nodes} nodes`, async () => {
      const seed = Number(process.env.PITR_POLL_SEED ?? 1);
      let exact = 0;
      let inexact = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 30, maxLength: 60 }), async (steps) => {
          const counts = await run(nodes, steps);
          exact += counts.exact;
          inexact += counts.inexact;
        }),
        { seed, numRuns: RUNS, endOnFailure: process.env.PITR_POLL_SHRINK === undefined },
      );
      console.log({ seed, exact, inexact });
      assert(exact > 0 && inexact < exact, `${inexact} of ${exact + inexact} are said to be inexact`);
    });
});
