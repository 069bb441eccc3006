import { PitrError } from '../engine/errors.ts';
import type { Archive } from './archive.ts';
import { packBytes } from './envelope.ts';
import type { ArchiveEvent } from './event.ts';
import type { MergedPart } from './run-writer.ts';
import { type BlockHandle, SegmentReader } from './segment-reader.ts';
import { SeedTable, VersionDigest } from './version-digest.ts';

/** Stored bytes that one ranged read takes. */
const FETCH_BYTES = 1024 * 1024;

/**
 * Reads a written segment back from the archive, from its footer to its last block, and compares it with what went into it:
 * versions by content and number, LSNs within the run's range, events (undefined: not compared).
 * @throws verification-failed, object-corrupt, object-not-found
 */
export const verifyPart = async (
  archive: Archive,
  { ref, digest }: MergedPart,
  run: { readonly lsnStart: number; readonly lsnEnd: number },
  events: readonly ArchiveEvent[] | undefined,
): Promise<void> => {
  const differs = (what: string): PitrError =>
    new PitrError('verification-failed', {
      what: `${ref.name} read back ${what}`,
      hint: 'nothing was replaced; run pitr verify on the archive',
    });
  // opened anew: what this process remembers proves nothing
  const reader = await SegmentReader.open(archive.store, ref, archive.id);
  await reader.header();
  const seeds = new SeedTable(reader.properties);
  const found = new VersionDigest();
  for (const group of groupsOf(await reader.blocks()))
    for (const stored of await reader.readBlocks(group)) {
      const block = reader.decode(stored);
      for (let i = 0; i < block.rows; i++) {
        const lsn = block.lsn(i);
        if (lsn < run.lsnStart || lsn >= run.lsnEnd)
          throw differs(`has LSN ${lsn}, which is not of the merged runs`);
        found.addRow(block, i, seeds.of(block.namespace, block.set[i], block.source[i]));
      }
    }
  if (`${found}` !== digest) throw differs(`has versions of digest ${found}, ${digest} went in`);
  if (ref.rows !== found.rows) throw differs(`has ${found.rows} versions, its reference says ${ref.rows}`);
  if (events && !packBytes(await reader.events()).equals(packBytes(events)))
    throw differs('has other events');
};

/** Neighbouring blocks that are read at once. */
function* groupsOf(handles: readonly BlockHandle[]): Generator<BlockHandle[]> {
  let group: BlockHandle[] = [];
  let bytes = 0;
  for (const handle of handles) {
    const last = group.at(-1);
    if (last && (bytes + handle.bytes > FETCH_BYTES || last.offset + last.bytes !== handle.offset)) {
      yield group;
      group = [];
      bytes = 0;
    }
    group.push(handle);
    bytes += handle.bytes;
  }
  if (group.length > 0) yield group;
}
