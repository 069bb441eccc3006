import { malformed } from './malformed.ts';
import { PROTO_HEADER_BYTES, ProtoType, writeProtoHeader } from './proto.ts';

export const SecurityCommand = { authenticate: 0, login: 20 } as const;

export const SecurityField = {
  user: 0,
  password: 1,
  oldPassword: 2,
  /** bcrypt of the password with {@link CREDENTIAL_SALT}, as text. */
  credential: 3,
  clearPassword: 4,
  sessionToken: 5,
  /** u32 seconds; absent or 0: it does not end. */
  sessionTtl: 6,
} as const;

/** Every client hashes passwords with this salt: the hash is the credential. */
export const CREDENTIAL_SALT = '$2a$10$7EqJtq98hPqEX7fNZaFWoO';

const HEADER_BYTES = 16;

/** A message of type 2. In requests `result` is 0. */
export interface SecurityMessage {
  readonly command: number;
  readonly result: number;
  /** By id; of two with one id the first. Views. */
  readonly fields: ReadonlyMap<number, Buffer>;
}

/** @throws wire-malformed */
export const parseSecurity = (body: Buffer): SecurityMessage => {
  if (body.length < HEADER_BYTES) throw malformed(`a security message of ${body.length} bytes`);
  if (body[0] !== 0) throw malformed(`security scheme ${body[0]}`, 53);
  const fields = new Map<number, Buffer>();
  let at = HEADER_BYTES;
  for (let n = body[3]; n > 0; n--) {
    if (body.length - at < 5) throw malformed('a security message without all of its fields', 55);
    const length = body.readUInt32BE(at);
    if (length < 1 || length > body.length - at - 4)
      throw malformed(`a security field of ${length} bytes`, 55);
    const id = body[at + 4];
    if (!fields.has(id)) fields.set(id, body.subarray(at + 5, at + 4 + length));
    at += 4 + length;
  }
  if (at !== body.length) throw malformed(`${body.length - at} bytes follow a security message`);
  return { command: body[2], result: body[1], fields };
};

/** A whole frame. */
export const securityFrame = (
  command: number,
  fields: readonly (readonly [id: number, data: Uint8Array])[],
  result = 0,
): Buffer => {
  const bodyBytes = fields.reduce((n, [, data]) => n + 5 + data.length, HEADER_BYTES);
  const out = Buffer.alloc(PROTO_HEADER_BYTES + bodyBytes);
  writeProtoHeader(out, 0, ProtoType.security, bodyBytes);
  out[PROTO_HEADER_BYTES + 1] = result;
  out[PROTO_HEADER_BYTES + 2] = command;
  out[PROTO_HEADER_BYTES + 3] = fields.length;
  let at = PROTO_HEADER_BYTES + HEADER_BYTES;
  for (const [id, data] of fields) {
    out.writeUInt32BE(data.length + 1, at);
    out[at + 4] = id;
    out.set(data, at + 5);
    at += 5 + data.length;
  }
  return out;
};
