import { hash } from 'bcryptjs';
import { PitrError } from '../../errors.ts';
import { ProtoType } from '../proto.ts';
import { ResultCode, resultCodeName } from '../result-code.ts';
import {
  CREDENTIAL_SALT,
  parseSecurity,
  SecurityCommand,
  SecurityField,
  type SecurityMessage,
  securityFrame,
} from '../security.ts';
import type { Login, Settings } from './client-options.ts';
import type { Connection } from './connection.ts';
import { exchange } from './exchange.ts';

/** A session is renewed that long before it ends. */
const RENEW_BEFORE_MS = 60_000;
/** Sessions that one socket tries. */
const RELOGINS_MAX = 3;

interface Session {
  /** Undefined: the node has no security. */
  readonly token: Buffer | undefined;
  readonly renewAtMs: number;
}

/** Hashes of passwords: slow by design, and the same for every node. */
export class Credentials {
  readonly #login: Login;
  #credential: Promise<string> | undefined;

  constructor(login: Login) {
    this.#login = login;
  }

  get user(): string | undefined {
    return this.#login.mode === 'pki' ? undefined : this.#login.user;
  }

  async loginFields(): Promise<(readonly [number, Buffer])[]> {
    const login = this.#login;
    if (login.mode === 'pki') return [];
    this.#credential ??= hash(login.password, CREDENTIAL_SALT);
    const fields: (readonly [number, Buffer])[] = [
      [SecurityField.user, Buffer.from(login.user)],
      [SecurityField.credential, Buffer.from(await this.#credential)],
    ];
    if (login.mode === 'external') fields.push([SecurityField.clearPassword, Buffer.from(login.password)]);
    return fields;
  }
}

/** The login of one node: made once, shown on every socket, renewed before it ends. */
export class NodeLogin {
  readonly #credentials: Credentials;
  readonly #settings: Settings;
  #session: Promise<Session> | undefined;

  constructor(credentials: Credentials, settings: Settings) {
    this.#credentials = credentials;
    this.#settings = settings;
  }

  /** Makes a new socket usable. @throws aerospike-login, and what ends the connection */
  async authenticate(connection: Connection): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const pending = this.#session;
      if (!pending) {
        // who logs in on a socket is logged in on it
        await this.#begin(connection);
        return;
      }
      const { token, renewAtMs } = await pending;
      if (token === undefined) return;
      if (this.#settings.timing.nowMs() < renewAtMs) {
        const { result } = await this.#ask(connection, SecurityCommand.authenticate, [
          ...this.#userField(),
          [SecurityField.sessionToken, token],
        ]);
        if (result === ResultCode.ok) return;
        const isOver = result === ResultCode.expiredSession || result === ResultCode.notAuthenticated;
        if (!isOver || attempt === RELOGINS_MAX) throw this.#refused(connection, result);
      }
      // several sockets may be refused the same session: the first of them makes a new one
      if (this.#session === pending) this.#session = undefined;
    }
  }

  #begin(connection: Connection): Promise<Session> {
    const session = this.#logIn(connection);
    this.#session = session;
    session.catch(() => {
      if (this.#session === session) this.#session = undefined;
    });
    return session;
  }

  async #logIn(connection: Connection): Promise<Session> {
    const answer = await this.#ask(connection, SecurityCommand.login, await this.#credentials.loginFields());
    const { result } = answer;
    if (
      result === ResultCode.securityNotEnabled ||
      (result === ResultCode.securityNotSupported && this.#settings.allowNoSecurity)
    )
      return { token: undefined, renewAtMs: Number.POSITIVE_INFINITY };
    if (result !== ResultCode.ok) throw this.#refused(connection, result);
    const token = answer.fields.get(SecurityField.sessionToken);
    if (!token) throw this.#refused(connection, ResultCode.securityField);
    const ttl = answer.fields.get(SecurityField.sessionTtl);
    const seconds = ttl?.length === 4 ? ttl.readUInt32BE(0) : 0;
    const livesMs = seconds === 0 ? Number.POSITIVE_INFINITY : seconds * 1000;
    const nowMs = this.#settings.timing.nowMs();
    return { token: Buffer.from(token), renewAtMs: nowMs + Math.max(livesMs / 2, livesMs - RENEW_BEFORE_MS) };
  }

  #userField(): (readonly [number, Buffer])[] {
    const { user } = this.#credentials;
    return user === undefined ? [] : [[SecurityField.user, Buffer.from(user)]];
  }

  async #ask(
    connection: Connection,
    command: number,
    fields: readonly (readonly [number, Uint8Array])[],
  ): Promise<SecurityMessage> {
    const body = await exchange(connection, securityFrame(command, fields), ProtoType.security, {
      timing: this.#settings.timing,
      timeoutMs: this.#settings.connectTimeoutMs,
      what: 'the login',
    });
    return parseSecurity(body);
  }

  #refused(connection: Connection, code: number): PitrError {
    return new PitrError('aerospike-login', {
      node: connection.address,
      user: this.#credentials.user,
      code,
      why: resultCodeName(code),
    });
  }
}
