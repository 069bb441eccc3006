import { readFileSync } from 'node:fs';

/** MB (10^6 bytes). */
export interface Memory {
  /** Anonymous memory: heap, buffers, stacks. */
  readonly rssAnonMB: number;
  /** Mapped files: the store's pages, which the system takes back when it needs them. */
  readonly rssFileMB: number;
}

/** Resident memory of a process; undefined where the system does not tell the kinds apart, or when it has ended. */
export const memoryOf = (pid: number | 'self'): Memory | undefined => {
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return undefined;
  }
  const of = (field: string): number =>
    (Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? Number.NaN) * 1024) / 1e6;
  const memory = { rssAnonMB: of('RssAnon'), rssFileMB: of('RssFile') };
  return Number.isNaN(memory.rssAnonMB) ? undefined : memory;
};

const SAMPLE_MS = 10;

/** Watches a process from outside, since a busy one does not come to look at itself; {@link stop} gives the peaks. */
export class MemoryWatch {
  readonly #timer: NodeJS.Timeout;
  #peak: Memory = { rssAnonMB: Number.NaN, rssFileMB: Number.NaN };

  constructor(pid: number) {
    this.#timer = setInterval(() => {
      const now = memoryOf(pid);
      if (!now) return;
      const { rssAnonMB, rssFileMB } = this.#peak;
      this.#peak = {
        rssAnonMB: now.rssAnonMB > rssAnonMB || Number.isNaN(rssAnonMB) ? now.rssAnonMB : rssAnonMB,
        rssFileMB: now.rssFileMB > rssFileMB || Number.isNaN(rssFileMB) ? now.rssFileMB : rssFileMB,
      };
    }, SAMPLE_MS);
  }

  stop(): Memory {
    clearInterval(this.#timer);
    return this.#peak;
  }
}
