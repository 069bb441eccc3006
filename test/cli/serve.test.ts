/** `pitr serve` as a process: a database with a time machine, its users, TLS, and its end. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { openObjectStore } from '../../engine/open-object-store.ts';
import { loadOfficialClient } from '../aerospike/official-client.ts';
import {
  digestOf,
  field,
  frame,
  GET_ALL,
  hex,
  int,
  message,
  READ,
  u64,
  utf8,
  WRITE,
} from '../aerospike/wire-bytes.ts';
import { WireConnection } from '../aerospike/wire-connection.ts';
import { headOf } from '../wal/archiver-support.ts';
import { assertNarrow, errorOf, jsonOf, outcomeOf, PROGRAM, runPitr, startPitr } from './run-pitr.ts';

const cwd = mkdtempSync(join(tmpdir(), 'pitr-serve-'));
const { aerospike, skip } = await loadOfficialClient();
const started = new Set<ChildProcess>();
// what a test that failed has left running
afterEach(() => {
  for (const child of started) child.kill('SIGKILL');
  started.clear();
});
after(() => rmSync(cwd, { recursive: true, force: true, maxRetries: 5 }));

interface Served {
  readonly child: ChildProcess;
  readonly port: number;
  readonly ports: readonly number[];
  /** What it says of itself. */
  readonly said: {
    readonly listen: readonly string[];
    readonly namespaces: readonly string[];
    readonly archiving: boolean;
    readonly tls: boolean;
    readonly users: number;
  };
}

/** Starts it and waits until it says where it listens. */
const serve = async (...args: string[]): Promise<Served> => {
  const child = startPitr(['serve', ...args, '--listen', '127.0.0.1:0', '--json'], { cwd });
  started.add(child);
  const failed = outcomeOf(child).then(({ code, stdout, stderr }) =>
    assert.fail(`ended with ${code}: ${stdout}${stderr}`),
  );
  const [line] = (await Promise.race([once(child.stdout!, 'data'), failed])) as [string];
  failed.catch(() => undefined);
  const said: Served['said'] = JSON.parse(line);
  const ports = said.listen.map((a) => Number(a.split(':').at(-1)));
  return { child, port: ports[0], ports, said };
};
const end = async ({ child }: Served, signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> => {
  const exited = once(child, 'exit');
  child.kill(signal);
  const [code] = await exited;
  started.delete(child);
  return code as number | null;
};

const fields = (key: number): Buffer[] => [
  field(0, utf8('test')),
  field(1, utf8('s')),
  field(4, digestOf('s', 1, u64(key))),
];
const put = (key: number, value: number): Buffer =>
  message({ info2: WRITE, fields: fields(key), ops: [int('a', value)] });
const get = (key: number): Buffer => message({ info1: READ | GET_ALL, fields: fields(key) });

test('connections never take the descriptors that the log needs', async () => {
  const args = ['serve', 'few', '--listen', '127.0.0.1:0', '--json'];
  const child = spawn('sh', ['-c', `ulimit -n 160 && exec "$0" "$@"`, process.execPath, PROGRAM, ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  started.add(child);
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const port = Number((JSON.parse(line.toString()).listen as string[])[0].split(':').at(-1));
  const wire = await WireConnection.open('127.0.0.1', port);
  const idle = Array.from({ length: 300 }, () => connect(port, '127.0.0.1').on('error', () => undefined));
  // long enough for several seals, each of which needs a new file
  for (let n = 0; n < 25; n++) {
    assert.equal((await wire.call(put(n, n))).code, 0);
    await sleep(100);
  }
  for (const socket of idle) socket.destroy();
  wire.close();
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  assert.equal((await exited)[0], 0);
  started.delete(child);
});

test('--seal says how often what was written is sealed, and how often its agent ships at most', async () => {
  const served = await serve('sealing', '--archive', 'file:sealed', '--seal', '20ms');
  const log = join(cwd, 'sealing', 'log');
  const files = (): number =>
    Math.max(0, ...readdirSync(log).map((name) => Number(/\d+/.exec(name)?.[0] ?? 0)));
  const first = files();
  // a second would not do for so many
  for (let tries = 0; files() < first + 5; tries++) {
    assert.ok(tries < 100, `${files() - first} seals in ${(tries * 20) / 1000} s and more`);
    await sleep(20);
  }
  assert.equal(await end(served), 0);
  const head = await headOf(openObjectStore(`file:${join(cwd, 'sealed')}`), join(cwd, 'sealing'));
  assert.equal(head.sealMs, 20);
});

describe('with an archive', () => {
  test('what is written over the wire can be restored to any instant, also to one of before a restart', async () => {
    const first = await serve('data', '--archive', 'file:archive');
    assert.deepEqual([first.said.archiving, first.said.namespaces, first.said.users], [true, ['test'], 0]);
    const wire = await WireConnection.open('127.0.0.1', first.port);
    for (let key = 0; key < 50; key++) assert.equal((await wire.call(put(key, 1))).code, 0);
    await jsonOf(['mark', 'before', 'data'], { cwd });
    for (let key = 0; key < 50; key++) assert.equal((await wire.call(put(key, 2))).code, 0);
    wire.close();
    assert.equal(await end(first), 0);

    const second = await serve('data', '--archive', 'file:archive');
    const again = await WireConnection.open('127.0.0.1', second.port);
    assert.deepEqual((await again.call(get(7))).ops, [`1 a 1:${u64(2).toString('hex')}`]);
    assert.equal((await again.call(put(7, 3))).generation, 3);
    again.close();
    // killed: what was acknowledged is there when it is started again
    await end(second, 'SIGKILL');
    const third = await serve('data', '--archive', 'file:archive');
    const last = await WireConnection.open('127.0.0.1', third.port);
    assert.deepEqual((await last.call(get(7))).ops, [`1 a 1:${u64(3).toString('hex')}`]);
    last.close();
    assert.equal(await end(third, 'SIGINT'), 0);

    // everything is archived when it has ended
    const now = await jsonOf(
      ['restore', '--archive', 'file:archive', '--to', 'latest', '--into', 'engine:now'],
      { cwd },
    );
    assert.equal(now.records, 50);
    await jsonOf(['restore', '--archive', 'file:archive', '--to', 'mark:before', '--into', 'engine:old'], {
      cwd,
    });
    const old = await serve('old');
    const past = await WireConnection.open('127.0.0.1', old.port);
    for (const key of [0, 7, 49])
      assert.deepEqual((await past.call(get(key))).ops, [`1 a 1:${u64(1).toString('hex')}`]);
    past.close();
    assert.equal(await end(old), 0);
  });

  test('its agent ends with it, however it ends', async () => {
    const served = await serve('gone', '--archive', 'file:archive-gone');
    await end(served, 'SIGKILL');
    // a second one of the stream is refused as long as the first one is there
    for (;;) {
      const { code, stderr, stdout } = await runPitr(['agent', 'gone', '--once', '--json'], { cwd });
      if (code === 0) break;
      assert.match(stdout, /agent-busy|engine-busy/, stderr);
      await sleep(50);
    }
  });

  test('what was answered is in the archive when it has ended, also when its agent had only just begun', async () => {
    const served = await serve('short-data', '--archive', 'file:short-backup');
    const wire = await WireConnection.open('127.0.0.1', served.port);
    assert.equal((await wire.call(put(1, 1))).code, 0);
    wire.close();
    assert.equal(await end(served), 0);
    const shipped = readdirSync(join(cwd, 'short-backup'), { recursive: true, encoding: 'utf8' });
    assert.ok(
      shipped.some((name) => name.endsWith('.seg')),
      shipped.join(' '),
    );
  });

  test('one that the engine was not made with is refused', async () => {
    await jsonOf(['init', 'other', '--archive', 'file:archive-other'], { cwd });
    const error = await errorOf(['serve', 'other', '--archive', 'file:elsewhere'], { cwd }, 'usage', 2);
    assert.match(error.message, /archived in/);
  });
});

describe('users', () => {
  const users = ['--user-file', 'users'];
  writeFileSync(join(cwd, 'users'), 'joe:secret word\nann:ß:x\n');

  test('without login everything is refused with 80', async () => {
    const served = await serve('users-data', ...users);
    const wire = await WireConnection.open('127.0.0.1', served.port);
    assert.equal((await wire.call(put(1, 1))).code, 80);
    assert.equal((await wire.call(get(1))).code, 80);
    assert.match((await wire.info('node'))[0], /^ERROR:80:/);
    // a user that does not exist; a command that is none
    for (const [request, code] of [
      ['00001402 000000000000000000000000 00000004 00 6e6f6e 00000003 03 6162', 60],
      ['00001400 000000000000000000000000', 65],
      ['00000002 000000000000000000000000 00000004 00 6a6f65 00000003 05 6162', 66],
      ['00000100 000000000000000000000000', 54],
    ] as const) {
      wire.send(frame(2, hex(request)));
      assert.equal((await wire.receive())?.body[1], code, request);
    }
    assert.equal((await wire.call(get(1))).code, 80);
    wire.close();
    await end(served);
  });

  test('a file that names no user lets nobody in', async () => {
    writeFileSync(join(cwd, 'nobody'), '\n');
    const error = await errorOf(['serve', 'nobody-data', '--user-file', 'nobody'], { cwd }, 'usage', 2);
    assert.match(error.message, /nobody names no user/);
  });

  test('the official client logs in with the right password only', { skip }, async () => {
    assert.ok(aerospike);
    const served = await serve('users-client', ...users, '--cluster-name', 'mine');
    const connect = (user: string, password: string) =>
      aerospike.connect({
        hosts: [{ addr: '127.0.0.1', port: served.port }],
        log: { level: aerospike.log.OFF },
        clusterName: 'mine',
        connTimeoutMs: 10_000,
        // a busy machine is no failure
        policies: { read: { totalTimeout: 20_000 }, write: { totalTimeout: 20_000 } },
        user,
        password,
      });
    await assert.rejects(connect('joe', 'secret'), { code: 65 });
    await assert.rejects(connect('non', 'secret word'), { code: 60 });
    for (const [user, password] of [
      ['joe', 'secret word'],
      ['ann', 'ß:x'],
    ]) {
      const client = await connect(user, password);
      const key = new aerospike.Key('test', 's', user);
      await client.put(key, { user });
      assert.equal((await client.get(key)).bins.user, user);
      client.close();
    }
    await end(served);
  });
});

describe('TLS', () => {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd, stdio: 'pipe' });
  const certificate = (name: string): void => {
    openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
      '-addext',
      `subjectAltName=DNS:${name}`,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.pem`,
    );
  };
  certificate('server');
  certificate('client');
  const file = (name: string): Buffer => readFileSync(join(cwd, name));
  const tls = ['--tls-cert', 'server.pem', '--tls-key', 'server.key', '--tls-name', 'server'];

  const secured = async (port: number, more: object = {}): Promise<TLSSocket> => {
    const socket = connectTls({
      port,
      host: '127.0.0.1',
      servername: 'server',
      ca: file('server.pem'),
      ...more,
    });
    await once(socket, 'secureConnect');
    return socket;
  };
  const ask = async (socket: TLSSocket, request: Buffer): Promise<Buffer> => {
    socket.write(request);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    return answer;
  };

  test('serves who trusts its certificate, and tells the name in it', async () => {
    const served = await serve('tls-data', ...tls);
    assert.equal(served.said.tls, true);
    const socket = await secured(served.port);
    assert.equal((await ask(socket, put(1, 1)))[13], 0);
    const text = (
      await ask(socket, frame(1, utf8('service-tls-std\npeers-tls-std\npeers-clear-std\n')))
    ).toString();
    assert.match(text, new RegExp(`service-tls-std\t127.0.0.1:${served.port}\n`));
    assert.match(text, /peers-tls-std\t0,3000,\[\]\n/);
    socket.destroy();
    // a peer that does not speak TLS gets no answer of the protocol
    const plain = await WireConnection.open('127.0.0.1', served.port);
    plain.send(put(1, 1));
    assert.equal(await plain.receive().catch(() => undefined), undefined);
    plain.close();
    await end(served);
  });

  test('certificates that cannot be used are refused before anything is made', async () => {
    writeFileSync(join(cwd, 'no.pem'), 'no certificate');
    for (const [cert, key, ca] of [
      ['no.pem', 'server.key', 'client.pem'],
      ['server.pem', 'no.pem', 'client.pem'],
      ['server.pem', 'client.key', 'client.pem'],
      ['server.pem', 'server.key', 'no.pem'],
    ])
      await errorOf(
        ['serve', 'no-data', '--tls-cert', cert, '--tls-key', key, '--tls-ca', ca],
        { cwd },
        'usage',
        2,
      );
    await errorOf(['serve', 'no-data', '--tls-name', 'server'], { cwd }, 'usage', 2);
    assert.equal(existsSync(join(cwd, 'no-data')), false);
  });

  test('a peer that goes or stays within its handshake does not keep the server from ending', async () => {
    const served = await serve('handshake-data', ...tls);
    const begun = async (): Promise<Socket> => {
      const socket = connect(served.port, '127.0.0.1').on('error', () => undefined);
      await once(socket, 'connect');
      await new Promise((resolve) => socket.write(hex('16030100c8010000c40303'), resolve));
      return socket;
    };
    const [gone, stays] = [await begun(), await begun()];
    gone.end();
    // whoever connected later is served: what came before has arrived
    const socket = await secured(served.port);
    assert.equal((await ask(socket, put(1, 1)))[13], 0);
    socket.destroy();
    assert.equal(await end(served), 0);
    stays.destroy();
  });

  test('with --tls-ca it serves only who shows a certificate of it', async () => {
    const served = await serve('mutual-data', ...tls, '--tls-ca', 'client.pem');
    const known = await secured(served.port, { cert: file('client.pem'), key: file('client.key') });
    assert.equal((await ask(known, put(1, 1)))[13], 0);
    known.destroy();
    const stranger = await secured(served.port);
    const closed = new Promise((resolve) => stranger.on('error', () => undefined).on('close', resolve));
    stranger.write(put(1, 1));
    await closed;
    await end(served);
  });
});

test('several nodes know each other, and each serves every record', async () => {
  const served = await serve('nodes-data', '--nodes', '3', '--namespace', 'test', 'more');
  assert.deepEqual([served.ports.length, new Set(served.ports).size], [3, 3]);
  for (const port of served.ports) {
    const wire = await WireConnection.open('127.0.0.1', port);
    const [peers, namespaces] = await wire.info('peers-clear-std', 'namespaces');
    assert.equal(namespaces, 'test;more');
    for (const other of served.ports) assert.equal(peers.includes(`127.0.0.1:${other}`), other !== port);
    assert.equal((await wire.call(put(5, 1))).code, 0);
    wire.close();
  }
  await end(served);
});

test('what is given wrongly is refused with its reason', async () => {
  const wrong = [
    ['--listen', 'nowhere'],
    ['--listen', '127.0.0.1:99999'],
    ['--nodes', '0'],
    ['--nodes', '9'],
    ['--tls-cert', 'server.pem'],
    ['--user', 'joe'],
    ['--user', ':x'],
    ['--user', 'joe:'],
  ];
  await Promise.all(wrong.map((args) => errorOf(['serve', 'bad', ...args], { cwd }, 'usage', 2)));
  await errorOf(['serve', 'bad', '--namespace', 'n'.repeat(32)], { cwd }, 'bad-record', 3);
  const served = await serve('taken');
  await errorOf(['serve', 'taken', '--listen', '127.0.0.1:0'], { cwd }, 'engine-busy', 50);
  await errorOf(['serve', 'taken2', '--listen', `127.0.0.1:${served.port}`], { cwd }, 'io', 60);
  await end(served);
});

test('its text tells a person where it listens, and its help has examples', async () => {
  const child = startPitr(['serve', 'text', '--listen', '127.0.0.1:0'], { cwd });
  started.add(child);
  const [text] = (await once(child.stdout!.setEncoding('utf8'), 'data')) as [string];
  assert.match(text, /Listens: +127\.0\.0\.1:\d+/);
  assertNarrow(text);
  child.kill();
  await once(child, 'exit');
  const { stdout } = await runPitr(['serve', '--help'], { cwd });
  assert.match(stdout, /\$ pitr serve data --archive file:\/backup\/db/);
});
