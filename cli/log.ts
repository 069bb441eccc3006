import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export const LOG_FORMATS = ['json', 'pretty'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface LoggerOptions {
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Where lines go. Default: stderr, written synchronously so that the last words of a dying process are not lost. */
  readonly destination?: DestinationStream;
}

/** The process's logger. Standard output belongs to results, so logs go to stderr only. */
export function createLogger({ level, format, destination }: LoggerOptions): Logger {
  const stderr = destination ?? pino.destination({ fd: 2, sync: true });
  const stream = format === 'pretty' ? { write: (line: string) => stderr.write(prettyLine(line)) } : stderr;
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }), log: (fields) => stringifyBigints(fields) },
    },
    stream,
  );
}

/** LSNs are bigints, which JSON has not; --json prints them as strings too. */
function stringifyBigints(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, typeof value === 'bigint' ? `${value}` : value]),
  );
}

/** pino's JSON line as `2026-11-21T10:00:00.123Z INFO  sealed stream=a lsn=17`. Always one line. */
export function prettyLine(json: string): string {
  const { time, level, msg, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const pairs = Object.entries(fields).map(([key, value]) => `${key}=${prettyValue(value)}`);
  const message = typeof msg === 'string' ? escapeControls(msg) : undefined;
  const head = `${time} ${String(level).toUpperCase().padEnd(5)}`;
  return `${[head, message, ...pairs].filter((part) => part !== undefined).join(' ')}\n`;
}

function prettyValue(value: unknown): string {
  if (typeof value === 'string') return /^[^\s"=\p{Cc}]+$/u.test(value) ? value : JSON.stringify(value);
  if (isLoggedError(value)) return JSON.stringify(`${value.type}: ${value.message}`);
  return JSON.stringify(value);
}

/** pino's error serializer: the stack is in the JSON format only, a line of text has no room for it. */
function isLoggedError(value: unknown): value is { type: string; message: string } {
  return (
    typeof value === 'object' && value !== null && 'stack' in value && 'type' in value && 'message' in value
  );
}

function escapeControls(text: string): string {
  return text.replace(/\p{Cc}/gu, (char) => JSON.stringify(char).slice(1, -1));
}
