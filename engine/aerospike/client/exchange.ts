import { PitrError } from '../../errors.ts';
import { infoRequest, parseInfoError, parseInfoReply } from '../info.ts';
import { malformed } from '../malformed.ts';
import { ProtoType } from '../proto.ts';
import type { Connection } from './connection.ts';
import type { Timing } from './timing.ts';

/** Sends `request` and resolves with the body of the one frame that answers. @throws what ended the connection, aerospike-timeout */
export const exchange = (
  connection: Connection,
  request: Buffer,
  type: ProtoType,
  { timing, timeoutMs, what }: { readonly timing: Timing; readonly timeoutMs: number; readonly what: string },
): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const cancel = timing.after(timeoutMs, () =>
      connection.destroy(
        new PitrError('aerospike-timeout', { what, ms: timeoutMs, node: connection.address }),
      ),
    );
    connection.attach({
      frame: (answerType, body) => {
        if (answerType !== type) throw malformed(`a frame of type ${answerType} answers one of type ${type}`);
        cancel();
        connection.attach(undefined);
        resolve(body);
      },
      lost: (error) => {
        cancel();
        reject(error);
      },
    });
    connection.write(request);
  });

/** Asks `commands`; values by command, failures among them. */
export const askInfo = async (
  connection: Connection,
  commands: readonly string[],
  bounds: { readonly timing: Timing; readonly timeoutMs: number },
): Promise<Map<string, string>> => {
  const body = await exchange(connection, infoRequest(commands), ProtoType.info, { ...bounds, what: 'info' });
  return parseInfoReply(body);
};

/** The value of `command`. @throws aerospike-info when there is none or it says that the command failed */
export const infoValue = (values: ReadonlyMap<string, string>, command: string, node: string): string => {
  const value = values.get(command);
  const error = value === undefined ? { code: undefined, text: 'no answer' } : parseInfoError(value);
  if (error || value === undefined)
    throw new PitrError('aerospike-info', { node, command, code: error?.code, text: error?.text || value });
  return value;
};
