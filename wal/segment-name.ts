import { randomBytes } from 'node:crypto';

/** Name of a segment object: everything that identifies it, and a fresh attempt id, so that it is never written twice. */
export const segmentName = (
  timeline: string,
  folder: string,
  level: number,
  lsnStart: number,
  lsnEnd: number,
  generation: number,
): string => {
  const digits = (n: number): string => String(n).padStart(15, '0');
  const attempt = randomBytes(6).toString('hex');
  return `segments/${timeline}/${folder}/L${level}/${digits(lsnStart)}-${digits(lsnEnd)}-g${generation}-${attempt}.seg`;
};
