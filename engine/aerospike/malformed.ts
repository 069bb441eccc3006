import { PitrError } from '../errors.ts';

/** Bytes that are not what the protocol says. `result` is the code that a server answers with, where it can answer. */
export const malformed = (what: string, result: number = 4): PitrError =>
  new PitrError('wire-malformed', { what, result });
