/**
 * The only place that prints. A command builds a data object and says how it reads as text; whether text or JSON is wanted
 * is decided here. Both forms carry the same facts.
 *
 * Nothing here ends the process: writes to a pipe are asynchronous, and process.exit() would cut them off. Set
 * process.exitCode instead.
 */
import { getSystemErrorMessage, inspect } from 'node:util';
import { PitrError } from '../engine/errors.ts';

/** Version of the JSON envelope. Fields may be added under the same number. */
const ENVELOPE_VERSION = 1;

/** What every command knows about how its result is wanted. */
export interface CommandOutput {
  /** One JSON object on stdout instead of text. */
  readonly json: boolean;
}

export interface TextSink {
  write(text: string): unknown;
}

export interface CommandResult {
  readonly command: string;
  /** An object; its fields become fields of the JSON output. Anything else comes out as the field `data`. */
  readonly data: unknown;
  /** Called only when text is wanted. */
  readonly text: () => string;
}

/** Prints a command's result: `{"pitr":1,"command":…, …data}` on one line, or its text. */
export function emit(result: CommandResult, { json, stdout }: CommandOutput & { stdout: TextSink }): void {
  if (!json) {
    const text = result.text();
    // A command with nothing to say prints nothing, not an empty line.
    if (text !== '') stdout.write(text.endsWith('\n') ? text : `${text}\n`);
    return;
  }
  const envelope = { pitr: ENVELOPE_VERSION, command: result.command };
  const fields = isPlainObject(result.data) ? result.data : { data: result.data };
  // Twice: the first puts the envelope's fields in front, the second keeps data from replacing them.
  stdout.write(toJsonLine({ ...envelope, ...fields, ...envelope }));
}

/**
 * Prints what went wrong and returns the exit code. Text goes to stderr; JSON goes to stdout, where a program that asked
 * for one object expects it. With PITR_DEBUG set, the stack follows on stderr in either form.
 */
export function reportError(
  error: unknown,
  {
    json,
    stdout,
    stderr,
    env = process.env,
  }: CommandOutput & {
    stdout: TextSink;
    stderr: TextSink;
    env?: Readonly<Record<string, string | undefined>>;
  },
): number {
  const problem = toPitrError(error);
  const { id, message, hint, exitCode, facts } = problem;
  if (json) {
    stdout.write(toJsonLine({ pitr: ENVELOPE_VERSION, error: { id, message, hint, exitCode, facts } }));
  } else {
    stderr.write(`pitr: ${message}\nhint: ${hint}\n`);
  }
  // Of what was thrown, not of its translation; inspect follows the causes.
  if (env.PITR_DEBUG) stderr.write(`${inspect(error)}\n`);
  return exitCode;
}

/**
 * Any thrown value as an error with an id. A system error becomes `io` and an abort `interrupted`, also as the cause of
 * another error, since libraries wrap them ("fetch failed"); everything else is a bug: `internal`.
 */
export function toPitrError(error: unknown): PitrError {
  // A limit, because nothing forbids a cause that leads back to itself.
  let cause = error;
  for (let depth = 0; depth < 8 && cause instanceof Error; depth++, cause = cause.cause) {
    if (cause instanceof PitrError) return cause;
    if (isSystemError(cause)) return ioError(cause);
    if (cause.name === 'AbortError')
      return new PitrError('interrupted', { what: 'the command' }, { cause: error });
  }
  const what = error instanceof Error ? error.message || error.name : inspect(error);
  return new PitrError('internal', { what }, { cause: error });
}

/** Node's shape of a failed system call. Its own argument checks have codes of the form ERR_…, which are our bugs. */
interface SystemError extends Error {
  readonly code: string;
  readonly errno?: number;
  readonly syscall?: string;
  readonly path?: string;
  readonly address?: string;
  readonly port?: number;
}

function isSystemError(error: Error): error is SystemError {
  return 'code' in error && typeof error.code === 'string' && /^E(?!RR_)[A-Z0-9]+$/.test(error.code);
}

function ioError(error: SystemError): PitrError {
  const { code, errno, syscall = 'i/o', path, address, port } = error;
  const socket = address === undefined ? '' : `${address}${port === undefined ? '' : `:${port}`}`;
  const why =
    typeof errno === 'number' && errno < 0 ? `${getSystemErrorMessage(errno)} (${code})` : error.message;
  return new PitrError('io', { op: syscall, path: path ?? socket, why, code }, { cause: error });
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** bigint as a string: an LSN may be beyond what a JSON reader keeps exact as a number. */
function toJsonLine(value: unknown): string {
  return `${JSON.stringify(value, (_, field: unknown) => (typeof field === 'bigint' ? `${field}` : field))}\n`;
}
