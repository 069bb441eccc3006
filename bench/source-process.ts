import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Of `/proc/PID/stat`: the kernel's unit of processor time. */
const TICKS_PER_SECOND = 100;
const LISTENING = '0A';

/** The process of this machine that listens on a port; undefined: none, or not ours to see, or not Linux. */
export const listenerOf = (port: number): number | undefined => {
  try {
    const hex = port.toString(16).toUpperCase().padStart(4, '0');
    const sockets = new Set<string>();
    for (const file of ['/proc/net/tcp', '/proc/net/tcp6'])
      for (const line of readFileSync(file, 'utf8').split('\n').slice(1)) {
        const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
        if (state === LISTENING && local?.endsWith(`:${hex}`)) sockets.add(`socket:[${inode}]`);
      }
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name)))
      for (const fd of fdsOf(pid)) if (sockets.has(fd)) return Number(pid);
  } catch {
    // not Linux
  }
  return undefined;
};

const fdsOf = (pid: string): string[] => {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`);
      } catch {
        return '';
      }
    });
  } catch {
    return [];
  }
};

/** Seconds of processor time that a process has used so far; NaN where nobody tells. */
export const cpuSecondsOf = (pid: number | undefined): number => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  } catch {
    return Number.NaN;
  }
};
