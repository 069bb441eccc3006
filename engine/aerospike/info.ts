import { malformed } from './malformed.ts';
import { PROTO_HEADER_BYTES, ProtoType, writeProtoHeader } from './proto.ts';

/** Commands that one request may have. */
export const INFO_COMMANDS_MAX = 1024;

/** One line of a request: `name`, `name/argument` or `name:k=v;k=v`. */
export interface InfoCommand {
  /** As it was sent, without the end of the line: the answer repeats it. */
  readonly raw: Buffer;
  readonly name: string;
  /** What follows the name, '' when nothing does. */
  readonly argument: string;
  /** What follows a colon, taken apart; a part without `=` has the value ''. */
  readonly parameters: ReadonlyMap<string, string>;
}

const NEWLINE = 0x0a;

/** The commands of a request: lines that have an end, and are not empty. @throws wire-malformed: too many */
export const parseInfoRequest = (body: Buffer): InfoCommand[] => {
  const commands: InfoCommand[] = [];
  for (let at = 0; at < body.length; ) {
    const end = body.indexOf(NEWLINE, at);
    if (end < 0) break;
    if (end > at) {
      if (commands.length === INFO_COMMANDS_MAX)
        throw malformed(`more than ${INFO_COMMANDS_MAX} info commands`);
      commands.push(parseCommand(body.subarray(at, end)));
    }
    at = end + 1;
  }
  return commands;
};

const parseCommand = (raw: Buffer): InfoCommand => {
  const text = raw.toString('utf8');
  const cut = text.search(/[/:]/);
  if (cut < 0) return { raw, name: text, argument: '', parameters: new Map() };
  const argument = text.slice(cut + 1);
  return {
    raw,
    name: text.slice(0, cut),
    argument,
    parameters: text[cut] === ':' ? parseParameters(argument) : new Map(),
  };
};

/** `k=v;k=v`. A value may hold `=`, as base64 does. */
export const parseParameters = (text: string, separator = ';'): Map<string, string> => {
  const parameters = new Map<string, string>();
  for (const part of text.split(separator)) {
    if (part === '') continue;
    const equals = part.indexOf('=');
    if (equals < 0) parameters.set(part, '');
    else parameters.set(part.slice(0, equals), part.slice(equals + 1));
  }
  return parameters;
};

const infoFrame = (body: Buffer): Buffer => {
  const frame = Buffer.allocUnsafe(PROTO_HEADER_BYTES + body.length);
  writeProtoHeader(frame, 0, ProtoType.info, body.length);
  body.copy(frame, PROTO_HEADER_BYTES);
  return frame;
};

/** A whole frame that asks `commands`. */
export const infoRequest = (commands: readonly string[]): Buffer =>
  infoFrame(Buffer.from(commands.map((c) => `${c}\n`).join(''), 'utf8'));

/** A whole frame that answers. */
export const infoReply = (answers: readonly { readonly raw: Buffer; readonly value: string }[]): Buffer =>
  infoFrame(
    Buffer.concat(answers.flatMap(({ raw, value }) => [raw, TAB, Buffer.from(value, 'utf8'), LINE_END])),
  );

const TAB = Buffer.from('\t');
const LINE_END = Buffer.from('\n');

/** An answer: value by command. Each line is cut at its first tab only. */
export const parseInfoReply = (body: Buffer): Map<string, string> => {
  const values = new Map<string, string>();
  for (const line of body.toString('utf8').split('\n')) {
    if (line === '') continue;
    const tab = line.indexOf('\t');
    if (tab < 0) values.set(line, '');
    else values.set(line.slice(0, tab), line.slice(tab + 1));
  }
  return values;
};

/** A value that says that the command failed; code undefined when it names none. */
export interface InfoError {
  readonly code: number | undefined;
  readonly text: string;
}

export const infoError = (code: number, text: string): string => `ERROR:${code}:${text}`;

/** Undefined when `value` is an answer and not a failure. */
export const parseInfoError = (value: string): InfoError | undefined => {
  const m = /^(?:ERROR|FAIL)(?::(\d*)(?::(.*))?)?$/is.exec(value);
  if (m) return { code: m[1] ? Number(m[1]) : undefined, text: m[2] ?? '' };
  const old = /^error=([^;]*)/i.exec(value);
  return old ? { code: undefined, text: old[1] } : undefined;
};
