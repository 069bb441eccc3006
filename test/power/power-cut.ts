/**
 * What a machine may find after a power cut, from a {@link PowerCut}: everything that POSIX and the common Linux file systems
 * leave open about bytes and names that nobody has synced.
 *
 * **Bytes** of a file since its last sync: dropped; kept in part, cut at any byte; the file already grown and zeros where
 * data did not arrive (delayed allocation: ext4 `data=writeback`, XFS; with `data=ordered` an unwritten extent reads as zeros,
 * too); sectors of 512 or 4096 bytes written in any order, so that a later one is there and an earlier one is not, where old
 * bytes or zeros stay; the last sector torn within. Drives promise at most that one sector is written as a whole, and not all of
 * them do.
 *
 * **Names** since the last fsync of their folder: each change made or lost by itself. ext4 and XFS keep their order (one journal),
 * so prefixes are among the states; POSIX and others promise nothing of the kind. A rename is one change: old or new, never
 * neither. A name may be there although the bytes of its file are not: fsync of a folder is not fsync of its files.
 *
 * What was synced stays. Disks that lie about a flush are not modelled: nothing can be promised on them.
 *
 * Sources: T. Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014 (the persistence properties of Table 1 and their
 * tool ALICE); fsync(2) and rename(2) of Linux; Documentation/filesystems/ext4 (delalloc, data= modes) in the kernel tree.
 */
import type { Rng } from '../model/rng.ts';
import type { CutFile, PowerCut } from '../wal/memory-files.ts';

const SECTOR_BYTES = [512, 4096];
/** Up to so many sectors or names, every subset is tried. */
const SUBSETS_OF_MAX = 5;
const RANDOM_SUBSETS = 6;

type Content = ReadonlyMap<string, Buffer>;

/** Different states, at most `limit` of them: all if there are no more, else the plain ones and a random choice. */
export function* statesAfter(cut: PowerCut, limit: number, rng: Rng): Generator<Content> {
  const nameStates = namesAfter(cut, rng);
  const fileStates = cut.files.map((file) => bytesAfter(file, rng));
  const all: Content[] = [];
  const seen = new Set<string>();
  const state = (names: ReadonlyMap<string, number>, choose: (file: number) => Buffer): void => {
    // two names of one file show the same bytes
    const chosen = new Map<number, Buffer>();
    const content = new Map<string, Buffer>();
    for (const [path, file] of names) {
      const bytes = chosen.get(file) ?? choose(file);
      chosen.set(file, bytes);
      content.set(path, bytes);
    }
    const id = idOf(content);
    if (seen.has(id)) return;
    seen.add(id);
    all.push(content);
  };
  const plain = nameStates.length <= limit ? nameStates : nameStates.slice(0, limit >> 1);
  for (const names of plain) {
    const open = [...new Set(names.values())].filter((file) => fileStates[file].length > 1);
    state(names, (file) => fileStates[file][0]);
    state(names, (file) => fileStates[file].at(-1) as Buffer);
    if (all.length > 4 * limit) break;
    // with one file in question, which is usual, everything that can become of it
    if (open.length !== 1) continue;
    const [one] = open;
    const some = fileStates[one].length <= limit ? fileStates[one] : sample(fileStates[one], limit, rng);
    for (const bytes of some) state(names, (file) => (file === one ? bytes : fileStates[file][0]));
  }
  for (let i = 0; i < limit && all.length < 2 * limit; i++)
    state(rng.pick(nameStates), (file) => rng.pick(fileStates[file]));
  // the two plain ones stay
  while (all.length > limit) all.splice(all.length > 2 ? rng.int(2, all.length - 1) : 1, 1);
  yield* all;
}

const sample = <T>(items: readonly T[], count: number, rng: Rng): T[] =>
  Array.from({ length: count }, () => rng.pick(items));

/** What is left of a file: first what was synced, last everything. */
const bytesAfter = (file: CutFile, rng: Rng): Buffer[] => {
  const { durable, writes } = file;
  if (writes.length === 0) return [durable];
  const end = Math.max(durable.length, ...writes.map((w) => w.at + w.bytes.length));
  const start = Math.min(...writes.map((w) => w.at));
  const whole = grown(durable, end);
  for (const { at, bytes } of writes) bytes.copy(whole, at);
  const states = [durable];
  const cut = (at: number): unknown =>
    states.push(Buffer.from(whole.subarray(0, Math.max(at, durable.length))));
  // each write by itself, and every sector border: how far the file had grown
  for (const { at, bytes } of writes) cut(at + bytes.length);
  for (let at = start - (start % 512) + 512; at < end; at += 512) cut(at);
  for (const at of [start + 1, end - 1, rng.int(start, end), rng.int(start, end)]) cut(at);
  // grown, and nothing has arrived
  states.push(grown(durable, end));
  for (const size of SECTOR_BYTES) {
    const first = Math.floor(start / size);
    const count = Math.ceil(end / size) - first;
    for (const kept of subsets(count, rng)) {
      const bytes = grown(durable, end);
      for (let i = 0; i < count; i++)
        if (kept(i)) whole.copy(bytes, (first + i) * size, (first + i) * size, (first + i + 1) * size);
      states.push(bytes);
      // the same, and the file is not longer than its last piece that arrived
      let last = count - 1;
      while (last >= 0 && !kept(last)) last--;
      const bytesEnd = Math.max(durable.length, Math.min(end, (first + last + 1) * size));
      states.push(Buffer.from(bytes.subarray(0, bytesEnd)));
    }
  }
  // torn within a sector: the first part of it is new, the rest is what was there
  for (let i = 0; i < 3; i++) {
    const bytes = grown(durable, end);
    whole.copy(bytes, start, start, rng.int(start, end));
    states.push(bytes);
  }
  states.push(whole);
  return states;
};

const grown = (bytes: Buffer, length: number): Buffer => {
  const out = Buffer.alloc(length);
  bytes.copy(out);
  return out;
};

/** Names that are left, by file: first those that were synced, second all. */
const namesAfter = (cut: PowerCut, rng: Rng): ReadonlyMap<string, number>[] => {
  const { changes } = cut;
  const apply = (made: (i: number) => boolean): ReadonlyMap<string, number> => {
    const names = new Map(cut.names);
    changes.forEach((change, i) => {
      if (!made(i)) return;
      if (change.kind !== 'add') names.delete(change.path);
      if (change.kind === 'add') names.set(change.path, change.file);
      if (change.kind === 'rename') names.set(change.to, change.file);
    });
    return names;
  };
  return [...subsets(changes.length, rng)].map(apply);
};

/** Subsets of `count` things: none, all, then every other one, or prefixes, all but one, one, and random ones. */
function* subsets(count: number, rng: Rng): Generator<(i: number) => boolean> {
  yield () => false;
  if (count === 0) return;
  yield () => true;
  if (count <= SUBSETS_OF_MAX) {
    for (let mask = 1; mask < 2 ** count - 1; mask++) yield (i) => (mask & (1 << i)) !== 0;
    return;
  }
  const few = count <= 16 ? [...Array(count).keys()] : [0, 1, count >> 1, count - 2, count - 1];
  for (const n of few) {
    yield (i) => i < n;
    yield (i) => i !== n;
    yield (i) => i === n;
  }
  for (let n = 0; n < RANDOM_SUBSETS; n++) {
    const kept = Array.from({ length: count }, () => rng.chance(0.5));
    yield (i) => kept[i];
  }
}

/** Tells two states apart. */
export const idOf = (content: Content): string =>
  [...content]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([path, bytes]) => `${path}\0${bytes.toString('latin1')}`)
    .join('\0\0');
