import { join } from 'node:path';
import type { LogVersion } from '../../../engine/commit-log.ts';
import { type Files, nodeFiles } from '../../../engine/files.ts';
import { LOG_DIR } from '../../local-log.ts';
import { logFilesIn, scanLogFile } from '../../log-file.ts';
import type { Graves } from './graves.ts';
import { contentOf, type Recent } from './recent.ts';

/** The newest so many bytes are read. */
const LOG_BYTES_MAX = 256 * 1024 * 1024;

/**
 * What the newest log of `captureDir` that is still there says of deletes and of what was logged lately. Its journal is open, and nobody
 * writes to it yet. @throws log-corrupt, io errors
 */
export const readRecentLog = async (
  captureDir: string,
  memory: { readonly graves: Graves; readonly recent: Recent },
  nowMs: number,
  files: Files = nodeFiles,
): Promise<void> => {
  const dir = join(captureDir, LOG_DIR);
  const newest: { path: string; sealed: boolean }[] = [];
  let bytes = 0;
  for (const { name, sealed } of logFilesIn(await files.list(dir)).reverse()) {
    const path = join(dir, name);
    // a file that was spilled, and is not mounted, is older than what is sent again
    const stat = await files.stat(path).catch(() => undefined);
    bytes += stat?.bytes ?? LOG_BYTES_MAX;
    if (bytes > LOG_BYTES_MAX) break;
    newest.unshift({ path, sealed });
  }
  const last = new Map<string, { lutMs: number; generation: number }>();
  for (const { path, sealed } of newest)
    scanLogFile(await files.read(path), path, !sealed, (entry) => {
      if (entry.kind === 'version') remember(entry.version, last, memory, nowMs);
    });
};

const remember = (
  v: LogVersion,
  last: Map<string, { lutMs: number; generation: number }>,
  { graves, recent }: { readonly graves: Graves; readonly recent: Recent },
  nowMs: number,
): void => {
  const id = `${v.namespace}/${Buffer.from(v.digest).toString('latin1')}`;
  const lutMs = v.seen?.lutMs ?? v.ts;
  if (v.image) recent.add(v.digest, lutMs, v.generation, contentOf(v.image));
  else recent.add(v.digest, lutMs, 0);
  if (v.image) {
    last.set(id, { lutMs, generation: v.generation });
    return;
  }
  const before = last.get(id);
  last.delete(id);
  graves.add(v.namespace, v.digest, {
    lutMs,
    generation: before?.generation ?? 0,
    writtenLutMs: before?.lutMs ?? 0,
    isLogged: true,
    loggedLutMs: 0,
    atMs: nowMs,
  });
};
