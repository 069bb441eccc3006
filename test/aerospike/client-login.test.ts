import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { connect as connectTcp, type Socket } from 'node:net';
import { afterEach, before, describe, test } from 'node:test';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import type { ClientOptions } from '../../engine/aerospike/client/client-options.ts';
import { putCommand } from '../../engine/aerospike/client/command.ts';
import { collect, intBin, isError, NAMESPACE, ownServer, QUICK, u64, until } from './client-support.ts';
import { bytes } from './golden-bytes.ts';
import { frameOf, ScriptedPeer, statusFrame } from './scripted-peer.ts';

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const o of opened.splice(0).reverse()) await o.close();
});

/** bcrypt of `secret` with the salt of all clients: from libxcrypt. */
const CREDENTIAL = '$2a$10$7EqJtq98hPqEX7fNZaFWoOu7NRZ0i7m5NbgPBEsHTCoJzZDEKQRb.';
const LOGIN_BODY = Buffer.concat([
  bytes('00 00 14 02 000000000000000000000000 00000004 00'),
  Buffer.from('joe'),
  bytes('0000003d 03'),
  Buffer.from(CREDENTIAL),
]);
const authenticateBody = (token: string): Buffer =>
  Buffer.concat([
    bytes('00 00 00 02 000000000000000000000000 00000004 00'),
    Buffer.from('joe'),
    bytes(`000000${(token.length + 1).toString(16).padStart(2, '0')} 05`),
    Buffer.from(token),
  ]);
const result = (code: number): Buffer =>
  frameOf(2, Buffer.from([0, code, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
/** A login's answer: token `t1`, `t2`, …, and how long it holds. */
const session = (token: string, ttl: number): Buffer =>
  frameOf(
    2,
    Buffer.concat([
      bytes('00 00 00 02 000000000000000000000000'),
      bytes(`000000${(token.length + 1).toString(16).padStart(2, '0')} 05`),
      Buffer.from(token),
      bytes(`00000005 06 ${ttl.toString(16).padStart(8, '0')}`),
    ]),
  );

interface Secured {
  readonly peer: ScriptedPeer;
  logins: number;
  authenticated: number;
  /** The session that is good for now. */
  token: string;
}

/** A node that lets in who logs in as joe, and refuses every command of who did not with 80. */
const secured = async (ttl = 0): Promise<Secured> => {
  const known = new WeakSet<Socket>();
  const state = { logins: 0, authenticated: 0, token: '' };
  const peer = await ScriptedPeer.open({
    info: ScriptedPeer.infoOf('A1', () => true),
    onFrame: (frame, socket) => {
      const body = frame.subarray(8);
      if (frame[1] === 3) return known.has(socket) ? statusFrame(2) : statusFrame(80);
      if (body.equals(LOGIN_BODY)) {
        state.token = `t${++state.logins}`;
        known.add(socket);
        return session(state.token, ttl);
      }
      if (body[2] === 20) return result(65);
      if (!body.equals(authenticateBody(state.token))) return result(66);
      state.authenticated++;
      known.add(socket);
      return result(0);
    },
  });
  opened.push(peer);
  return Object.assign(state, { peer });
};

const connect = async (port: number, options: Partial<ClientOptions> = {}): Promise<AerospikeClient> => {
  const client = await AerospikeClient.connect({
    hosts: [{ host: '127.0.0.1', port }],
    ...QUICK,
    login: { user: 'joe', password: 'secret' },
    ...options,
  });
  opened.push(client);
  return client;
};
const keyOf = (n: number) => wireKeyOf(NAMESPACE, 's', { type: 1, bytes: u64(n) });

describe('users', () => {
  test('login once for a node, then the session on every other socket', async () => {
    const node = await secured();
    const client = await connect(node.peer.port);
    assert.equal(await client.get(keyOf(1)), undefined);
    const [one] = client.nodes;
    await Promise.all([1, 2, 3].map(() => client.info(one, ['node'])));
    assert.deepEqual([node.logins, node.authenticated >= 2], [1, true]);
  });

  test('a session that the node has forgotten is made again', async () => {
    const node = await secured();
    const client = await connect(node.peer.port);
    node.token = 'gone';
    assert.equal(await client.get(keyOf(1)), undefined);
    assert.equal(node.logins, 2);
  });

  test('a session is renewed before it ends', async () => {
    let nowMs = 0;
    const node = await secured(100);
    const client = await connect(node.peer.port, {
      timing: {
        nowMs: () => nowMs,
        after: (ms, run) => {
          const timer = setTimeout(run, ms);
          return () => clearTimeout(timer);
        },
      },
      idleMsMax: 1,
      tendIntervalMs: 5,
    });
    await client.get(keyOf(1));
    assert.equal(node.logins, 1);
    // 100 s, of which the last half is left unused, since a minute before the end would be too much of it
    nowMs = 49_000;
    await until(() => node.peer.open === 1);
    await client.get(keyOf(1));
    assert.equal(node.logins, 1);
    nowMs = 51_000;
    await until(() => node.peer.open === 1);
    await client.get(keyOf(1));
    assert.equal(node.logins, 2);
  });

  test('a wrong password, and no login where one is needed', async () => {
    const node = await secured();
    await assert.rejects(
      connect(node.peer.port, { login: { user: 'joe', password: 'wrong' } }),
      isError('aerospike-login', { code: 65, user: 'joe' }),
    );
    await until(() => node.peer.open === 0);
    const anonymous = await connect(node.peer.port, { login: undefined });
    await assert.rejects(anonymous.get(keyOf(1)), isError('aerospike-result', { code: 80 }));
  });

  test('51, Community Edition: only where it is allowed; 52: security is off, and that is that', async () => {
    const answering = async (code: number) => {
      const peer = await ScriptedPeer.open({
        info: ScriptedPeer.infoOf('A1', () => true),
        onFrame: (frame) => (frame[1] === 2 ? result(code) : statusFrame(2)),
      });
      opened.push(peer);
      return peer.port;
    };
    await assert.rejects(connect(await answering(51)), isError('aerospike-login', { code: 51 }));
    const allowed = await connect(await answering(51), { allowNoSecurity: true });
    assert.equal(await allowed.get(keyOf(1)), undefined);
    const off = await connect(await answering(52));
    assert.equal(await off.get(keyOf(1)), undefined);
  });
});

describe('TLS', () => {
  const file = (name: string) => readFile(new URL(`tls/${name}`, import.meta.url), 'utf8');
  let pem: Record<'ca' | 'serverCert' | 'serverKey' | 'clientCert' | 'clientKey', string>;
  before(async () => {
    const [ca, serverCert, serverKey, clientCert, clientKey] = await Promise.all(
      ['ca.pem', 'server.pem', 'server.key', 'client.pem', 'client.key'].map(file),
    );
    pem = { ca, serverCert, serverKey, clientCert, clientKey };
  });
  const serve = async (more: Record<string, unknown> = {}) => {
    const own = await ownServer({
      nodes: 2,
      tls: { cert: pem.serverCert, key: pem.serverKey, name: 'node.example', ...more },
    });
    opened.push(own);
    return own.port;
  };
  /** TLS of Node alone before a node that lets everybody in. */
  const greeter = async (options: TlsOptions) => {
    const everything = { ...ScriptedPeer.infoOf('A1', () => true), 'peers-tls-std': '0,3000,[]' };
    const peer = await ScriptedPeer.open({ info: everything });
    opened.push(peer);
    const sockets = new Set<Socket>();
    const server = createTlsServer(options, (socket) => {
      const inner = connectTcp(peer.port, '127.0.0.1').on('error', () => {});
      sockets.add(inner);
      socket
        .on('error', () => {})
        .pipe(inner)
        .pipe(socket);
    });
    server.on('connection', (socket) => sockets.add(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    opened.push({
      close: async () => {
        for (const socket of sockets) socket.destroy();
        await new Promise((resolve) => server.close(resolve));
      },
    });
    const address = server.address();
    return { port: typeof address === 'object' && address ? address.port : 0 };
  };
  const connectTls = (port: number, tls: ClientOptions['tls'], tlsName?: string) =>
    connect(port, {
      login: undefined,
      tls,
      connectTimeoutMs: 500,
      hosts: [{ host: '127.0.0.1', port, ...(tlsName ? { tlsName } : {}) }],
    });

  test('the name comes from the options, or from the seed and then from discovery', async () => {
    const port = await serve();
    for (const client of [
      await connectTls(port, { ca: pem.ca, name: 'node.example' }),
      await connectTls(port, { ca: pem.ca }, 'node.example'),
    ]) {
      assert.equal(client.nodes.length, 2);
      const keys = Array.from({ length: 300 }, (_, i) => keyOf(i));
      assert.deepEqual((await client.runAll(keys.map((k) => putCommand(k, [intBin('n', 1)])))).failed(), []);
      assert.equal((await collect(client.scan({ namespace: NAMESPACE, set: 's' }))).length, 300);
    }
  });

  test('another name, an unknown signer, no TLS at all: not taken', async () => {
    const { port } = await greeter({ cert: pem.serverCert, key: pem.serverKey });
    const refused = isError('aerospike-unreachable');
    assert.equal((await connectTls(port, { ca: pem.ca, name: 'node.example' })).nodes.length, 1);
    await assert.rejects(connectTls(port, { ca: pem.ca, name: 'other.example' }), refused);
    await assert.rejects(connectTls(port, { ca: pem.ca }), refused);
    await assert.rejects(connectTls(port, { name: 'node.example' }), refused);
    await assert.rejects(connectTls(port, undefined), refused);
  });

  test('a node that asks for a certificate gets it', async () => {
    const asking = { ca: pem.ca, requestCert: true, rejectUnauthorized: true };
    const strict = await greeter({ cert: pem.serverCert, key: pem.serverKey, ...asking });
    const tls = { ca: pem.ca, name: 'node.example' };
    await assert.rejects(connectTls(strict.port, tls), isError('aerospike-unreachable'));
    const port = await serve(asking);
    const client = await connectTls(port, { ...tls, cert: pem.clientCert, key: pem.clientKey });
    assert.equal(client.nodes.length, 2);
  });
});
