/**
 * Judges two agents of one stream by what the store holds and what the writers were told. It knows the formats of names and control
 * objects as wal/README.md has them, and shares no code with the archiver; only segments are read with the product's reader.
 */
import assert from 'node:assert/strict';
import { restoreJsonLines } from '../../restore/restore.ts';
import { Archive } from '../../wal/archive.ts';
import { contentOf } from './archiver-support.ts';
import type { Acknowledged, FencingWorld } from './fencing-world.ts';
import type { Call } from './memory-store.ts';

interface HeadText {
  readonly generation: number;
  readonly claim: string;
  readonly frontier: { readonly ts: number; readonly lsn: number };
  readonly sequence: number;
  readonly gaps: readonly unknown[];
  readonly runs: readonly {
    readonly lsnStart: number;
    readonly lsnEnd: number;
    readonly segments: readonly { readonly name: string; readonly bytes: number }[];
  }[];
  readonly retired: readonly { readonly names: readonly string[] }[];
}

interface NoteText {
  readonly merge: {
    readonly parts: readonly { readonly ref: { readonly name: string } }[];
    readonly writing: string | null;
  } | null;
}

const bodyOf = <T>(bytes: Buffer): T => JSON.parse(bytes.toString('utf8', bytes.indexOf(10) + 1));

const liveIn = (head: HeadText): string[] => head.runs.flatMap((r) => r.segments.map((s) => s.name));

export class FencingJudge {
  readonly #world: FencingWorld;
  #head: HeadText | undefined;
  /** Objects that were created when another agent had the stream already. */
  readonly late = new Set<string>();
  problem: unknown;

  constructor(world: FencingWorld) {
    this.#world = world;
    this.#head = this.#read<HeadText>('heads/');
  }

  get head(): HeadText {
    return this.#head as HeadText;
  }

  /** Who has claimed the stream last. */
  owner = '';

  /** To be told of every call of an agent, directly after its effect. The first problem is kept for {@link end}. */
  watchOf(agent: string): (call: Call, names: readonly string[], isDone: boolean) => void {
    return (call, names, isDone) => {
      try {
        if (isDone) this.#look(agent, call, names);
      } catch (error) {
        this.problem ??= error;
      }
    };
  }

  #look(agent: string, call: Call, names: readonly string[]): void {
    const before = this.#head;
    const now = this.#read<HeadText>('heads/');
    this.#head = now;
    if (call === 'swap' && names[0].startsWith('heads/') && now && now !== before) {
      if (now.generation !== before?.generation) this.owner = agent;
      assert.equal(agent, this.owner, 'A3: who has lost the stream has published');
      this.#published(before, now);
    }
    if (call === 'create') {
      const generation = Number(/-g(\d+)-/.exec(names[0])?.[1] ?? Number.POSITIVE_INFINITY);
      if (now && generation < now.generation) this.late.add(names[0]);
    }
    if (call === 'delete' && now) {
      const live = new Set(liveIn(now));
      for (const name of names) assert.ok(!live.has(name), `A6: deleted and listed: ${name}`);
    }
    for (const dir of this.#world.acknowledged.keys()) this.#archivedIsTrue(dir);
  }

  #published(before: HeadText | undefined, now: HeadText): void {
    if (before) {
      assert.ok(
        now.generation >= before.generation,
        `A3: generation ${now.generation} after ${before.generation}`,
      );
      if (now.generation === before.generation)
        assert.equal(now.claim, before.claim, `A3: two claims to generation ${now.generation}`);
      else {
        // a claim takes the stream as it is
        assert.deepEqual(
          [now.frontier, now.sequence, now.runs],
          [before.frontier, before.sequence, before.runs],
        );
      }
      assert.ok(
        now.frontier.ts >= before.frontier.ts &&
          now.frontier.lsn >= before.frontier.lsn &&
          now.sequence >= before.sequence,
        `A2: frontier ${JSON.stringify(now.frontier)} after ${JSON.stringify(before.frontier)}`,
      );
    }
    let next = 1;
    for (const run of now.runs) {
      assert.equal(run.lsnStart, next, 'A1');
      next = run.lsnEnd;
      for (const { name, bytes } of run.segments)
        assert.equal(
          this.#world.objects.objects.get(name)?.length,
          bytes,
          `A4: listed and not there: ${name}`,
        );
    }
    assert.equal(next, now.frontier.lsn + 1, 'runs end at the frontier');
    assert.deepEqual(now.gaps, []);
  }

  /** `archived.json` of a directory says no more than what the archive has of this directory's own history. */
  #archivedIsTrue(dir: string): void {
    const { files, acknowledged } = this.#world;
    if (!files.namesIn(dir).includes('archived.json')) return;
    const { lsn } = JSON.parse(files.bytesOf(`${dir}/archived.json`).toString('utf8'));
    assert.ok(
      lsn <= this.head.frontier.lsn,
      `${dir} may trim up to ${lsn}, archived is ${this.head.frontier.lsn}`,
    );
    this.#archivedMax.set(dir, Math.max(lsn, this.#archivedMax.get(dir) ?? 0));
    assert.ok(lsn <= (acknowledged.get(dir)?.at(-1)?.lsn ?? 0));
  }

  readonly #archivedMax = new Map<string, number>();

  /** After both have ended. `isLossy`: requests of the first got lost, so it did not know what it had created. */
  async end(isLossy = false, isLast = false): Promise<void> {
    if (this.problem) throw this.problem;
    const { objects, acknowledged } = this.#world;
    const archive = await Archive.open(objects);
    const timeline = await archive.timeline();
    const found = await archive.head(timeline.id, 'main');
    assert.ok(found);
    // every version at or below the frontier, once, with its content, and all of one history
    const { rows } = await contentOf(objects, found.value);
    const archived = new Map(rows.map((row) => [row.lsn, row]));
    assert.equal(archived.size, rows.length, 'no LSN twice');
    const isSame = (v: Acknowledged): boolean => {
      const row = archived.get(v.lsn);
      if (row?.ts !== v.ts) return false;
      return v.value === undefined
        ? row.image === undefined
        : row.image?.includes(Buffer.from(v.value).toString('hex')) === true;
    };
    const { lsn: lsnMax } = this.head.frontier;
    const histories = [...acknowledged.values()].filter(
      (list) =>
        list.filter((v) => v.lsn <= lsnMax).every(isSame) &&
        list.filter((v) => v.lsn <= lsnMax).length === rows.length,
    );
    assert.ok(histories.length > 0, 'the archive has the history of one directory, up to its frontier');
    // what the archive does not have is in the log of the directory that has it, whatever its writers have trimmed
    for (const [dir, list] of acknowledged) {
      const log = this.#logOf(dir);
      for (const v of list)
        if (v.value !== undefined && !isSame(v))
          assert.ok(log.includes(v.value), `${dir} has lost LSN ${v.lsn}`);
      const own = list.filter(isSame).at(-1)?.lsn ?? 0;
      assert.ok((this.#archivedMax.get(dir) ?? 0) <= own, `${dir} could trim what the archive has otherwise`);
    }
    if (!isLast) await this.#restores(archive, histories[0]);
    for (const name of this.orphans())
      assert.ok(isLossy || this.late.has(name), `not late, and nobody names it: ${name}`);
  }

  /** Segments that neither head nor note names. */
  orphans(): string[] {
    const merge = this.#read<NoteText>('merges/')?.merge;
    const named = new Set([
      ...liveIn(this.head),
      ...this.head.retired.flatMap((r) => r.names),
      ...(merge ? [...merge.parts.map((p) => p.ref.name), merge.writing] : []),
    ]);
    return [...this.#world.objects.objects.keys()].filter((n) => n.startsWith('segments/') && !named.has(n));
  }

  get hasNote(): boolean {
    return (this.#read<NoteText>('merges/')?.merge ?? null) !== null;
  }

  /** The newest state, and one in the middle. */
  async #restores(archive: Archive, history: readonly Acknowledged[]): Promise<void> {
    const { ts: newest } = this.head.frontier;
    for (const ts of [newest, Math.min(newest, history[history.length >>> 1].ts)]) {
      const expected = new Map<number, string>();
      for (const v of history.filter((x) => x.ts <= ts)) {
        if (v.value === undefined) expected.delete(v.key);
        else expected.set(v.key, v.value);
      }
      const lines: string[] = [];
      await restoreJsonLines(async (text) => void lines.push(...String(text).trim().split('\n')), {
        archive,
        target: String(ts),
        workers: 0,
        ttl: 'absolute',
        clock: this.#world.clock,
      });
      const state = lines.filter((l) => l !== '').map((l) => JSON.parse(l));
      assert.deepEqual(
        new Map(state.map((r) => [r.key, r.bins.value] as const).sort(([a], [b]) => a - b)),
        new Map([...expected].sort(([a], [b]) => a - b)),
        `the state at ${ts}`,
      );
    }
  }

  #logOf(dir: string): Buffer {
    const names = this.#world.files.namesIn(`${dir}/log`);
    return Buffer.concat(names.map((name) => this.#world.files.bytesOf(`${dir}/log/${name}`)));
  }

  /** Texts that were read last, by name. */
  readonly #parsed = new Map<string, { readonly bytes: Buffer; readonly body: unknown }>();

  /** The one swapped object below a prefix. */
  #read<T>(prefix: string): T | undefined {
    for (const [name, values] of this.#world.objects.swaps) {
      if (!name.startsWith(prefix)) continue;
      const { bytes } = values.at(-1) as { bytes: Buffer };
      const known = this.#parsed.get(name);
      if (known?.bytes === bytes) return known.body as T;
      const body = bodyOf<T>(bytes);
      this.#parsed.set(name, { bytes, body });
      return body;
    }
    return undefined;
  }
}
