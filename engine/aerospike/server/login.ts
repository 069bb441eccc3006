import { randomBytes, timingSafeEqual } from 'node:crypto';
import { hash } from 'bcryptjs';
import type { Clock } from '../../clock.ts';
import { PitrError } from '../../errors.ts';
import { ResultCode } from '../result-code.ts';
import {
  CREDENTIAL_SALT,
  parseSecurity,
  SecurityCommand,
  SecurityField,
  type SecurityMessage,
  securityFrame,
} from '../security.ts';

/** How long a login holds. Clients log in again a minute before. */
const SESSION_SECONDS = 24 * 3600;
/** Sessions that are remembered; the oldest are forgotten first. */
const SESSIONS_MAX = 100_000;
/** How long a refusal takes: who guesses gets few tries. */
const REFUSAL_MS = 100;

interface SessionOfUser {
  readonly user: string;
  readonly untilMs: number;
}

/** What a security message comes to. `isAuthenticated` undefined: the connection stays what it was. */
export interface LoginAnswer {
  readonly reply: Buffer;
  readonly isAuthenticated: boolean | undefined;
}

/**
 * Users with passwords: LOGIN gives a token, AUTHENTICATE takes it (or the credential itself) for each further connection. A user may
 * do everything; there are no roles. Passwords are kept as the credential that clients send: their bcrypt hash under the protocol's salt.
 */
export class Login {
  readonly #credentials: ReadonlyMap<string, Buffer>;
  readonly #clock: Clock;
  readonly #sessions = new Map<string, SessionOfUser>();

  private constructor(credentials: ReadonlyMap<string, Buffer>, clock: Clock) {
    this.#credentials = credentials;
    this.#clock = clock;
  }

  /** `users`: passwords by name. @throws usage for a name or password that cannot be sent */
  static async of(users: ReadonlyMap<string, string>, clock: Clock): Promise<Login> {
    const credentials = new Map<string, Buffer>();
    for (const [user, password] of users) {
      if (user === '' || Buffer.byteLength(user) > 63 || password === '' || Buffer.byteLength(password) > 63)
        throw new PitrError('usage', {
          what: `user "${user}" or its password is empty or too long`,
          hint: 'at most 63 bytes each',
        });
      credentials.set(user, Buffer.from(await hash(password, CREDENTIAL_SALT)));
    }
    return new Login(credentials, clock);
  }

  /** @throws wire-malformed */
  async answer(body: Buffer): Promise<LoginAnswer> {
    const message = parseSecurity(body);
    const result = this.#resultOf(message);
    if (result !== ResultCode.ok) {
      await new Promise((resolve) => setTimeout(resolve, REFUSAL_MS));
      return { reply: securityFrame(message.command, [], result), isAuthenticated: undefined };
    }
    if (message.command !== SecurityCommand.login)
      return { reply: securityFrame(message.command, []), isAuthenticated: true };
    const ttl = Buffer.alloc(4);
    ttl.writeUInt32BE(SESSION_SECONDS);
    const fields = [
      [SecurityField.sessionToken, this.#newSession(userOf(message))],
      [SecurityField.sessionTtl, ttl],
    ] as const;
    return { reply: securityFrame(message.command, fields), isAuthenticated: true };
  }

  #resultOf(message: SecurityMessage): number {
    const { command, fields } = message;
    if (command !== SecurityCommand.login && command !== SecurityCommand.authenticate)
      return ResultCode.securityCommand;
    const credential = fields.get(SecurityField.credential);
    if (credential) return this.#credentialResult(userOf(message), credential);
    const token = fields.get(SecurityField.sessionToken);
    if (!token || command === SecurityCommand.login) return ResultCode.invalidCredential;
    const session = this.#sessions.get(token.toString('latin1'));
    if (!session || session.user !== userOf(message) || session.untilMs < this.#clock.nowMs())
      return ResultCode.expiredSession;
    return ResultCode.ok;
  }

  #credentialResult(user: string, credential: Buffer): number {
    const expected = this.#credentials.get(user);
    if (!expected) return ResultCode.invalidUser;
    const isRight = expected.length === credential.length && timingSafeEqual(expected, credential);
    return isRight ? ResultCode.ok : ResultCode.invalidCredential;
  }

  #newSession(user: string): Buffer {
    const token = randomBytes(32);
    this.#sessions.set(token.toString('latin1'), {
      user,
      untilMs: this.#clock.nowMs() + SESSION_SECONDS * 1000,
    });
    if (this.#sessions.size > SESSIONS_MAX) {
      const [oldest] = this.#sessions.keys();
      this.#sessions.delete(oldest);
    }
    return token;
  }
}

const userOf = ({ fields }: SecurityMessage): string =>
  fields.get(SecurityField.user)?.toString('utf8') ?? '';
