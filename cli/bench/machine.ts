import { closeSync, fdatasyncSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { cpus, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { median } from './measure.ts';

/** What figures depend on, printed beside them. */
export interface Machine {
  readonly cores: number;
  readonly model: string;
  readonly memoryMB: number;
  readonly kernel: string;
  readonly node: string;
  /** Write of 4 KiB and fdatasync at the end of a file, median, µs: the floor of a durable commit. */
  readonly syncMicros: number;
  /** Sequential write of 64 MiB and one fdatasync, MB/s: the floor of everything that moves bytes. */
  readonly syncMBPerSecond: number;
  /** Where `dir` is: memory makes every durable figure meaningless. */
  readonly isMemoryDisk: boolean;
}

const SYNCS = 200;
const SMALL = Buffer.alloc(4096, 1);
const LARGE = Buffer.alloc(1024 * 1024, 1);
const LARGE_COUNT = 64;
const MEMORY_FILE_SYSTEMS: readonly number[] = [0x01021994, 0x858458f6];

/** Takes about half a second; writes a file in `dir`, and removes it. */
export const machineOf = (dir: string): Machine => {
  const path = join(dir, 'disk-probe');
  const fd = openSync(path, 'w');
  try {
    const micros: number[] = [];
    for (let i = 0; i < SYNCS; i++) {
      const started = performance.now();
      writeSync(fd, SMALL);
      fdatasyncSync(fd);
      micros.push((performance.now() - started) * 1000);
    }
    const started = performance.now();
    for (let i = 0; i < LARGE_COUNT; i++) writeSync(fd, LARGE);
    fdatasyncSync(fd);
    const seconds = (performance.now() - started) / 1000;
    const processors = cpus();
    return {
      cores: processors.length,
      model: processors[0]?.model.trim() ?? 'unknown',
      memoryMB: Math.round(totalmem() / 1e6),
      kernel: `${type()} ${/^\d+\.\d+/.exec(release())?.[0] ?? release()}`,
      node: process.version,
      syncMicros: Math.round(median(micros)),
      syncMBPerSecond: Math.round((LARGE.length * LARGE_COUNT) / 1e6 / seconds),
      isMemoryDisk: MEMORY_FILE_SYSTEMS.includes(statfsSync(dir).type),
    };
  } finally {
    closeSync(fd);
    rmSync(path);
  }
};

/** `2 × some processor, 24 GB, Linux 6.1, Node v24` and what the disk does. */
export const machineLines = (m: Machine): string[] => [
  `${m.cores} × ${m.model}, ${(m.memoryMB / 1000).toFixed(0)} GB, ${m.kernel}, Node ${m.node}`,
  `disk: fdatasync of 4 KiB ${m.syncMicros} µs, sequential write ${m.syncMBPerSecond} MB/s${
    m.isMemoryDisk ? ' (this is memory: figures say nothing about a disk)' : ''
  }`,
];
