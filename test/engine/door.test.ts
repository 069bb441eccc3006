import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { callDoor, type DoorHandlers, DoorServer, isDoorClosed } from '../../engine/door.ts';
import { isPitrError, PitrError } from '../../engine/errors.ts';
import { rejectsWith } from './object-store-conformance.ts';

const HANDLERS: DoorHandlers = {
  echo: async (args) => args,
  nothing: async () => undefined,
  refuse: async () => {
    throw new PitrError('generation-mismatch', { key: 'k', actual: 3n, expected: 2n });
  },
  crash: async () => {
    throw new TypeError('oops');
  },
  function: async () => ({ toJSON: () => assert.fail('not serialisable') }),
  never: () => new Promise(() => {}),
};

const withDir = (what: string, body: (dir: string) => Promise<void>) =>
  test(what, { timeout: 60_000 }, async () => {
    const dir = await mkdtemp(join(tmpdir(), 'pitr-door-'));
    try {
      await body(dir);
    } finally {
      await rm(dir, { recursive: true });
    }
  });

const withDoor = (what: string, body: (dir: string, door: DoorServer) => Promise<void>) =>
  withDir(what, async (dir) => {
    const door = await DoorServer.open(dir, HANDLERS);
    try {
      await body(dir, door);
    } finally {
      await door.close();
    }
  });

/** Sends bytes and gives the lines that come back until the door closes the connection. */
async function knock(dir: string, bytes: string | Uint8Array, options = { end: true }): Promise<unknown[]> {
  const socket = createConnection(join(dir, 'engine.sock'));
  socket.on('error', () => {});
  if (options.end) socket.end(bytes);
  else socket.write(bytes);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  const lines = Buffer.concat(chunks).toString().split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line));
}

const refused = (reply: unknown) => {
  const { id, ok, error } = reply as { id: null; ok: boolean; error: { id: string } };
  assert.deepEqual({ id, ok, error: error.id }, { id: null, ok: false, error: 'usage' });
};

withDoor('a call brings back the result, bigints and non-ASCII text included', async (dir) => {
  const args = { lsn: 2n ** 64n - 1n, negative: -1n, text: 'Zürich 🎈\n', list: [1, null, true, { a: 0n }] };
  assert.deepEqual(await callDoor(dir, 'echo', args, {}), args);
  assert.equal(await callDoor(dir, 'nothing', undefined), undefined);
  assert.deepEqual(await callDoor(relative(process.cwd(), dir), 'echo', [1]), [1], 'by another spelling');
  await symlink(dir, `${dir}.link`);
  assert.deepEqual(await callDoor(`${dir}.link`, 'echo', [2]).finally(() => rm(`${dir}.link`)), [2]);
});

withDoor('a failure arrives with its id and facts', async (dir) => {
  await assert.rejects(callDoor(dir, 'refuse', {}), (error) => {
    assert.ok(isPitrError(error, 'generation-mismatch'));
    assert.deepEqual(error.facts, { key: 'k', actual: 3n, expected: 2n });
    return true;
  });
  await rejectsWith('internal', callDoor(dir, 'crash', {}));
  await rejectsWith('internal', callDoor(dir, 'function', {}));
  for (const verb of ['unknown', 'constructor', '__proto__', 'toString', '']) {
    await rejectsWith('usage', callDoor(dir, verb, {}));
  }
  assert.equal(await callDoor(dir, 'echo', 1), 1, 'the door is still open');
});

withDir('an error id of a newer release, and a reply that is none, are failures', async (dir) => {
  const replies = [
    ['internal', '{"id":1,"ok":false,"error":{"id":"brand-new","facts":{}}}\n'],
    ['internal', '{"id":1,"ok":false,"error":{"id":"toString"}}\n'],
    ['usage', '{"id":1,"ok":false,"error":{"id":"usage"}}\n'],
    ['io', 'hello\n'],
    ['io', '{"ok":false}\n'],
    ['io', 'null\n'],
    ['io', ''],
  ] as const;
  for (const [id, reply] of replies) {
    const server = createServer((socket) =>
      socket
        .on('error', () => {})
        .resume()
        .end(reply),
    );
    await once(server.listen(join(dir, 'engine.sock')), 'listening');
    await assert.rejects(callDoor(dir, 'echo', 1), (error) => isPitrError(error, id) && !isDoorClosed(error));
    server.close();
    await once(server, 'close');
  }
});

withDir('without a writer the door is closed, and says so', async (dir) => {
  const closed = (error: unknown) => isPitrError(error, 'io') && isDoorClosed(error);
  await assert.rejects(callDoor(dir, 'echo', 1), closed);
  await assert.rejects(callDoor(join(dir, 'missing'), 'echo', 1), closed);
  const door = await DoorServer.open(dir, HANDLERS);
  await door.close();
  assert.deepEqual(await readdir(dir), []);
  await assert.rejects(callDoor(dir, 'echo', 1), closed);
  await writeFile(join(dir, 'engine.sock'), 'not a socket');
  await assert.rejects(callDoor(dir, 'echo', 1), closed);
});

withDir('the socket of a killed writer is replaced', async (dir) => {
  const module = pathToFileURL(join(import.meta.dirname, '../../engine/door.ts')).href;
  const program = `
    const { DoorServer } = await import(${JSON.stringify(module)});
    await DoorServer.open(process.argv[1], {});
    process.stdout.write('open');
    if (process.argv[2]) setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, dir, 'stay']);
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.ok(existsSync(join(dir, 'engine.sock')));
  await assert.rejects(callDoor(dir, 'echo', 1), isDoorClosed);
  const door = await DoorServer.open(dir, HANDLERS);
  assert.equal(await callDoor(dir, 'echo', 1), 1);
  assert.equal((await stat(join(dir, 'engine.sock'))).mode & 0o777, 0o600);
  await door.close();

  const leaving = spawn(process.execPath, ['--input-type=module', '-e', program, dir]);
  const [code] = await once(leaving, 'exit');
  assert.equal(code, 0, 'an open door does not keep the process alive');
});

withDir(
  'a directory whose socket path would be too long has its door in the temporary directory',
  async (dir) => {
    const deep = join(dir, 'x'.repeat(60), 'y'.repeat(60));
    await mkdir(deep, { recursive: true });
    const door = await DoorServer.open(deep, HANDLERS);
    assert.equal(await callDoor(deep, 'echo', 1), 1);
    assert.deepEqual(await readdir(deep), []);
    await door.close();
    await assert.rejects(callDoor(deep, 'echo', 1), isDoorClosed);
  },
);

withDoor('a request of 64 KiB is served; a longer one is refused on both sides', async (dir) => {
  const overhead = JSON.stringify({ id: 1, verb: 'echo', args: '' }).length + 1;
  const longest = 'x'.repeat(64 * 1024 - overhead);
  assert.equal(await callDoor(dir, 'echo', longest), longest);
  await rejectsWith('usage', callDoor(dir, 'echo', `${longest}x`));
  const replies = await knock(dir, 'x'.repeat(1_000_000), { end: false });
  assert.equal(replies.length, 1);
  refused(replies[0]);
  assert.equal(await callDoor(dir, 'echo', 1), 1);
});

withDoor('a reply may be far longer than a request', async (dir, door) => {
  await door.close();
  const big = await DoorServer.open(dir, { big: async () => 'ä'.repeat(5_000_000) });
  assert.equal(((await callDoor(dir, 'big', {})) as string).length, 5_000_000);
  await big.close();
});

withDoor('hostile bytes get one refusal each, and harm nobody else', async (dir) => {
  const lines = [
    '',
    '{',
    'null',
    '7',
    '[]',
    '{}',
    '{"id":1}',
    '{"id":{},"verb":"echo"}',
    '{"id":1,"verb":["echo"]}',
  ];
  const bytes = [
    ...lines.map((line) => Buffer.from(`${line}\n`)),
    Buffer.from([0xff, 0xfe, 0x00, 0x0a]),
    Buffer.from('{"id":1,"verb":"echo","args":"\xff"}\n', 'latin1'),
    Buffer.from(`${'['.repeat(60_000)}\n`),
    Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
  ];
  for (const attack of bytes) {
    const replies = await knock(
      dir,
      Buffer.concat([attack, Buffer.from('{"id":2,"verb":"echo","args":1}\n')]),
    );
    assert.equal(replies.length, 1, `${attack.subarray(0, 30)}`);
    refused(replies[0]);
  }
  const polluting = '{"id":1,"verb":"echo","args":{"__proto__":{"polluted":1},"$bigint":"1e9"}}\n';
  assert.equal((await knock(dir, polluting)).length, 1);
  assert.equal(({} as { polluted?: number }).polluted, undefined);
  assert.deepEqual(await callDoor(dir, 'echo', { $bigint: 'x' }), { $bigint: 'x' });
});

withDoor('requests on one connection are answered in order, however the bytes arrive', async (dir) => {
  const text = [1, 2, 3].map((id) => `${JSON.stringify({ id, verb: 'echo', args: `é${id}` })}\n`).join('');
  const expected = [1, 2, 3].map((id) => ({ id, ok: true, result: `é${id}` }));
  assert.deepEqual(await knock(dir, text), expected);
  const socket = createConnection(join(dir, 'engine.sock')).setNoDelay();
  let got = '';
  socket.on('data', (chunk) => {
    got += chunk;
  });
  for (const byte of Buffer.from(text)) {
    socket.write(Buffer.from([byte]));
    await sleep(0);
  }
  socket.end();
  await once(socket, 'close');
  assert.deepEqual(
    got
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
    expected,
  );
});

withDoor('connections that break off at any point leave the door open', async (dir) => {
  for (const bytes of [
    '',
    '{"id":1,',
    '{"id":1,"verb":"never"}\n',
    '{"id":1,"verb":"echo","args":1}\n'.repeat(1000),
  ]) {
    const socket = createConnection(join(dir, 'engine.sock'));
    await once(socket, 'connect');
    socket.write(bytes);
    await sleep(10);
    socket.destroy();
  }
  assert.equal(await callDoor(dir, 'echo', 1), 1);
});

withDoor('the 65th connection is turned away, and the place of one that left is free', async (dir) => {
  const sockets: Socket[] = [];
  for (let i = 0; i < 64; i++) {
    sockets.push(createConnection(join(dir, 'engine.sock')));
    await once(sockets[i]!, 'connect');
  }
  await sleep(50);
  await rejectsWith('io', callDoor(dir, 'echo', 1));
  for (const socket of sockets) socket.destroy();
  await sleep(50);
  assert.equal(await callDoor(dir, 'echo', 1), 1);
});

withDoor('a call gives up after its timeout, others go on', async (dir) => {
  const startMs = performance.now();
  const slow = callDoor(dir, 'never', {}, { timeoutMs: 100 });
  assert.equal(await callDoor(dir, 'echo', 1), 1);
  await rejectsWith('wait-timeout', slow);
  assert.ok(performance.now() - startMs < 5000);
});

withDoor('closing the door breaks calls in progress at once', async (dir, door) => {
  const slow = callDoor(dir, 'never', {});
  const failed = assert.rejects(slow, (error) => isPitrError(error, 'io') && !isDoorClosed(error));
  await sleep(50);
  await door.close();
  await failed;
});
