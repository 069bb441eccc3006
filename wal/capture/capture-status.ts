import { join } from 'node:path';
import { z } from 'zod';
import { type Files, nodeFiles } from '../../engine/files.ts';
import { replaceFile } from '../../engine/identity.ts';

/** File in a capture directory in which its agent says how the source is, for `pitr status`. What may be lost. */
export const CAPTURE_FILE = 'capture.json';
const CAPTURE_VERSION = 1;

const count = z.number().min(0);

const totals = z.object({
  /** Versions logged, deletes among them. */
  versions: count,
  deletes: count,
  truncations: count,
  /** Found after their time had been published (F2). */
  late: count,
  /** Versions that nobody saw (S7), as far as generations tell. */
  missed: count,
  /** Whose time is known as a window only. */
  windows: count,
  /** Records that cannot be represented and are in no archive. */
  unreadable: count,
});

const cost = z.object({
  queries: count,
  /** Records that the source sent, and that its index sorted out. */
  records: count,
  filtered: count,
  bytes: count,
  /** Records for which it read its device, if it has one. */
  deviceReads: count,
  /** Percent of one processor that the server used, by its own word; null: it does not say. */
  cpuPercent: count.nullable(),
});

const shape = z.object({
  version: z.literal(CAPTURE_VERSION),
  atMs: count,
  kind: z.enum(['aerospike', 'xdr']),
  url: z.string(),
  /** `copying`: the base copy is under way; `waiting`: it is not published yet; `failing`: see `why`. */
  state: z.enum(['starting', 'copying', 'waiting', 'capturing', 'doubting', 'failing']),
  /** Of doubt and failure. */
  why: z.string().nullable(),
  /** Stated last, ms; null: not yet. */
  frontierTs: count.nullable(),
  pollMs: count.nullable(),
  totals,
  /** Of the last poll. */
  cost,
  /** What this source cannot know, in sentences (S7). */
  limits: z.array(z.string()),
});

export type CaptureStatus = Omit<z.infer<typeof shape>, 'version'>;
export type CaptureTotals = z.infer<typeof totals>;
export type CaptureCost = z.infer<typeof cost>;

export const NO_TOTALS: CaptureTotals = {
  versions: 0,
  deletes: 0,
  truncations: 0,
  late: 0,
  missed: 0,
  windows: 0,
  unreadable: 0,
};

export const NO_COST: CaptureCost = {
  queries: 0,
  records: 0,
  filtered: 0,
  bytes: 0,
  deviceReads: 0,
  cpuPercent: null,
};

/** Undefined: nobody has said anything, or it cannot be read. */
export const readCaptureStatus = async (
  dir: string,
  files: Files = nodeFiles,
): Promise<CaptureStatus | undefined> => {
  try {
    const parsed = shape.safeParse(JSON.parse((await files.read(join(dir, CAPTURE_FILE))).toString('utf8')));
    if (!parsed.success) return undefined;
    const { version: _, ...status } = parsed.data;
    return status;
  } catch {
    return undefined;
  }
};

export const writeCaptureStatus = (
  dir: string,
  status: CaptureStatus,
  files: Files = nodeFiles,
): Promise<void> =>
  replaceFile(dir, CAPTURE_FILE, `${JSON.stringify({ version: CAPTURE_VERSION, ...status })}\n`, files);
