/** Format names and shapes of a segment file; the layout is in README.md (wal), section "Segment". */
export const SEGMENT_MAGIC = 'PITRSEG\n';
export const SEGMENT_FOOTER_MAGIC = 'PITRSEGF';
export const SEGMENT_VERSION = 3;
export const FOOTER_BYTES = 40;
/** Bytes of one entry of an index partition: u16 namespace, u16 zero, 20 sort key, u64 offset, u32 stored bytes, u32 rows. */
export const INDEX_ENTRY_BYTES = 40;
/** Blocks that one index partition and its filter cover: 16 MiB of raw versions. */
export const BLOCKS_PER_INDEX = 64;
/** Raw bytes after which a merge closes a segment at the next partition border. */
export const SEGMENT_RAW_BYTES = 128 * 1024 * 1024;

/** Positions `[lsnStart, lsnEnd)` of one stream under one ownership epoch. The table is ordered by (epoch, stream). */
export interface StreamSpan {
  readonly epoch: number;
  readonly stream: string;
  readonly lsnStart: number;
  readonly lsnEnd: number;
}

export interface SegmentHeader {
  /** Archive id, 32 hex digits. */
  readonly archive: string;
  readonly timeline: string;
  /** 0 = straight from the log, 1… = merged, -1 = base or synthetic full: the latest version of each record only. */
  readonly level: number;
  readonly streams: readonly StreamSpan[];
  /** Generation of the writer that published it. */
  readonly generation: number;
  /** 32 random bytes from which the segment's key is derived when encryption is on. */
  readonly salt: Uint8Array;
  /** Id of the data key, or null: not encrypted. */
  readonly keyId: string | null;
}

/** One index partition: its first key, where it is and where its filter is. */
export interface TopEntry {
  readonly namespace: number;
  readonly key: Uint8Array;
  readonly indexOffset: number;
  readonly indexBytes: number;
  readonly filterOffset: number;
  readonly filterBytes: number;
}

export interface SetCount {
  readonly namespace: string;
  readonly set: string;
  readonly versions: number;
  readonly deletes: number;
  readonly imageBytes: number;
}

/** What of a segment may make instants inexact (S7): versions that say so of themselves, and truncations with a window. */
export interface InexactPart {
  readonly count: number;
  /** None of them makes an instant before this one inexact, ms. 0: versions were missed of which nobody knows since when. */
  readonly fromTs: number;
}

/** Written at the end of the file as msgpack; clear also when the rest is encrypted. */
export interface SegmentProperties {
  readonly header: SegmentHeader;
  readonly namespaces: readonly string[];
  /** Set names by index; '' is "no set". */
  readonly sets: readonly string[];
  readonly rows: number;
  readonly blocks: number;
  readonly tsMin: number;
  readonly tsMax: number;
  /** Partitions that it may hold, half-open. */
  readonly partitions: { readonly start: number; readonly end: number };
  readonly counts: readonly SetCount[];
  readonly dataBytes: number;
  readonly rawBytes: number;
  /** Of all versions ({@link VersionDigest}), as its writer got them; null: a snapshot's own segment, which its manifest's digests cover. */
  readonly digest: string | null;
  readonly eventsOffset: number;
  readonly eventsBytes: number;
  readonly events: number;
  /** Absent: all in it is exact. */
  readonly inexact?: InexactPart;
  readonly top: readonly TopEntry[];
}

/** How the catalog names a segment: enough to plan without opening it. */
export interface SegmentRef {
  readonly name: string;
  readonly bytes: number;
  /** crc32 of the properties, hex: ties the reference to the content. */
  readonly crc: string;
  readonly rows: number;
  readonly tsMin: number;
  readonly tsMax: number;
  readonly partitions: { readonly start: number; readonly end: number };
  readonly events: number;
  /** As in the properties. */
  readonly inexact?: InexactPart;
}

/** A sorted run: segments of one level with disjoint partitions that together hold the LSN range `[lsnStart, lsnEnd)`. */
export interface Run {
  readonly level: number;
  readonly lsnStart: number;
  readonly lsnEnd: number;
  readonly tsMin: number;
  readonly tsMax: number;
  readonly segments: readonly SegmentRef[];
}

/** Spans of the same epoch and stream as one, ordered by (epoch, stream). */
export const joinSpans = (spans: readonly StreamSpan[]): StreamSpan[] => {
  const joined = new Map<string, StreamSpan>();
  for (const s of spans) {
    const id = `${s.epoch}/${s.stream}`;
    const old = joined.get(id);
    joined.set(id, {
      epoch: s.epoch,
      stream: s.stream,
      lsnStart: Math.min(s.lsnStart, old?.lsnStart ?? s.lsnStart),
      lsnEnd: Math.max(s.lsnEnd, old?.lsnEnd ?? s.lsnEnd),
    });
  }
  return [...joined.values()].sort(
    (a, b) => a.epoch - b.epoch || Buffer.compare(Buffer.from(a.stream), Buffer.from(b.stream)),
  );
};
