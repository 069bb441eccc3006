/** The door of an engine, over a real socket: what any process of this user may send. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DoorServer } from '../../engine/door.ts';
import { doorArguments } from '../../engine/door-arguments.ts';
import { ERRORS } from '../../engine/errors.ts';
import type { Target } from './fuzz.ts';

let opened: Promise<{ door: DoorServer; dir: string }> | undefined;

const open = async () => {
  const dir = mkdtempSync(join(tmpdir(), 'pitr-fuzz-'));
  const verb = (name: Parameters<typeof doorArguments>[0]) => async (args: unknown) => {
    doorArguments(name, args);
    return null;
  };
  const door = await DoorServer.open(dir, {
    seal: verb('seal'),
    mark: verb('mark'),
    truncate: verb('truncate'),
    release: verb('release'),
    acquire: verb('acquire'),
  });
  return { door, dir };
};

export const closeDoor = async (): Promise<void> => {
  if (!opened) return;
  const { door, dir } = await opened;
  await door.close();
  rmSync(dir, { recursive: true });
};

/** Sends one line; the door answers it with one, or closes. */
const ask = async (line: Buffer): Promise<string> => {
  opened ??= open();
  const { dir } = await opened;
  return new Promise((resolve, reject) => {
    const socket = createConnection(join(dir, 'engine.sock'));
    let reply = '';
    const timer = setTimeout(() => reject(new Error('the door did not answer')), 5000);
    const done = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(reply);
    };
    socket.on('data', (chunk) => {
      reply += chunk.toString();
      if (reply.includes('\n')) done();
    });
    socket.on('close', done);
    socket.on('error', done);
    socket.write(Buffer.concat([line, Buffer.from('\n')]));
  });
};

const request = (verb: string, args: unknown): Buffer => Buffer.from(JSON.stringify({ id: 1, verb, args }));

export const doorTarget: Target = {
  name: 'door',
  refusals: [],
  seeds: [
    request('seal', { apply: true }),
    request('mark', { name: 'm' }),
    request('truncate', { namespace: 'test', set: 's', beforeMs: 1 }),
    request('release', { partitions: '0-7', peer: 'b' }),
    request('acquire', {
      partitions: '0-7',
      peer: 'b',
      epoch: 2,
      afterTs: 1,
      file: '/x',
      digests: [{ sum: '0'.repeat(32), records: 1 }],
    }),
  ],
  tree: {
    parse: (input) => JSON.parse(input.toString()),
    print: (tree) => Buffer.from(JSON.stringify(tree)),
  },
  run: async (input) => {
    const reply = JSON.parse(await ask(input));
    if (reply.ok === true) return;
    assert.ok(Object.hasOwn(ERRORS, reply.error.id) && reply.error.id !== 'internal', JSON.stringify(reply));
  },
};
