import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { DirectoryStore } from '../../engine/directory-store.ts';
import { type Files, nodeFiles, type OpenFile } from '../../engine/files.ts';
import { openObjectStore } from '../../engine/open-object-store.ts';
import { bytesOf, objectStoreConformance, rejectsWith } from './object-store-conformance.ts';

const scratch = async () => {
  const dir = await mkdtemp(join(tmpdir(), 'pitr-store-'));
  return { dir, dispose: () => rm(dir, { recursive: true, force: true }) };
};

const inScratch = (what: string, body: (dir: string) => Promise<void>) =>
  test(what, async () => {
    const { dir, dispose } = await scratch();
    try {
      await body(dir);
    } finally {
      await dispose();
    }
  });

const failure = (code: string) => Promise.reject(Object.assign(new Error(code), { code }));

/** Real files, of which some operations are replaced. */
const filesWith = (changes: Partial<Files>): Files => ({ ...nodeFiles, ...changes });

/** Real files of which new ones behave differently. */
const filesWithNew = (change: (path: string, file: OpenFile) => Partial<OpenFile>): Files =>
  filesWith({
    createNew: async (path) => {
      const file = await nodeFiles.createNew(path);
      const own = {
        append: (b: Uint8Array) => file.append(b),
        sync: () => file.sync(),
        close: () => file.close(),
      };
      return { ...own, ...change(path, file) };
    },
  });

objectStoreConformance(
  'DirectoryStore',
  async () => {
    const { dir, dispose } = await scratch();
    return { store: new DirectoryStore({ dir }), dispose };
  },
  async () => {
    const { dir, dispose } = await scratch();
    await writeFile(join(dir, 'file'), '');
    return { store: new DirectoryStore({ dir: join(dir, 'file') }), dispose };
  },
);

inScratch('D1: leftover temporary files, and what no object can be called, are invisible', async (dir) => {
  const store = new DirectoryStore({ dir });
  await store.create('a', bytesOf('a'));
  assert.deepEqual(await readdir(join(dir, '.tmp')), [], 'ours are removed');
  await writeFile(join(dir, '.tmp', 'left'), 'half');
  await mkdir(join(dir, 'lost+found'));
  await writeFile(join(dir, 'a~'), '');
  assert.deepEqual(await store.list(''), [{ name: 'a', bytes: 1 }]);
  await rejectsWith('usage', store.read('.tmp/left'));
});

inScratch('a root that vanishes between two writes is not made again, not even its folders', async (dir) => {
  const root = join(dir, 'mounted');
  const store = new DirectoryStore({ dir: root });
  await store.create('s/a', bytesOf('a'));
  await rm(root, { recursive: true });
  await rejectsWith('io', store.create('s/new/b', bytesOf('b')));
  await rejectsWith('io', store.swap('head/x', undefined, bytesOf('b')));
  assert.deepEqual(await readdir(dir), []);
  // halfway: what it writes is there, what it is to be called is not any more
  const half = new DirectoryStore({
    dir: root,
    files: filesWithNew((_, file) => ({
      close: async () => {
        await file.close();
        if (existsSync(join(root, 's'))) await rm(root, { recursive: true });
      },
    })),
  });
  await half.create('a', bytesOf('a'));
  await mkdir(join(root, 's'));
  await rejectsWith('io', half.create('s/new/b', bytesOf('b')));
  assert.deepEqual(await readdir(dir), []);
});

for (const operation of ['append', 'sync', 'close'] as const) {
  inScratch(`D1: when ${operation} fails, create throws and the object is not visible`, async (dir) => {
    const files = filesWithNew((_, file) => ({
      [operation]: async () => {
        if (operation === 'close') await file.close();
        return failure('EIO');
      },
    }));
    const store = new DirectoryStore({ dir, files });
    await rejectsWith('io', store.create('s/a', bytesOf('abc')));
    await rejectsWith('io', store.swap('head', undefined, bytesOf('abc')));
    assert.equal(await store.size('s/a'), undefined);
    assert.equal(await store.readSwap('head'), undefined);
    assert.deepEqual(await store.list(''), []);
    assert.deepEqual(await readdir(join(dir, '.tmp')), []);
  });
}

inScratch(
  'D3: the data is durable before its name appears, and every new folder name before create returns',
  async (dir) => {
    const log: string[] = [];
    const note = <T>(what: string, path: string, run: () => T): T => {
      log.push(`${what} ${relative(dir, path).replace(/^archive\/\.tmp\/.+/, 'TEMP')}`);
      return run();
    };
    const files: Files = {
      ...filesWithNew((path, file) => ({ sync: () => note('sync', path, () => file.sync()) })),
      makeDir: (path) => note('makeDir', path, () => nodeFiles.makeDir(path)),
      link: (from, to) => note('link', to, () => nodeFiles.link(from, to)),
      syncDir: (path) => note('syncDir', path, () => nodeFiles.syncDir(path)),
    };
    const store = new DirectoryStore({ dir: join(dir, 'archive'), files });
    await store.create('s/t/a', bytesOf('a'));
    const first = [
      'makeDir archive',
      'makeDir archive/.tmp',
      'sync TEMP',
      'makeDir archive/s',
      'makeDir archive/s/t',
    ];
    assert.deepEqual(log.splice(0), [...first, 'link archive/s/t/a', 'syncDir archive/s/t']);
    await store.create('s/t/b', bytesOf('b'));
    assert.deepEqual(log, ['sync TEMP', 'link archive/s/t/b', 'syncDir archive/s/t']);
  },
);

inScratch(
  'a folder that cannot be listed is an error, not an empty archive and not a missing value',
  async (dir) => {
    const store = new DirectoryStore({ dir });
    await store.create('s/a', bytesOf('a'));
    await store.swap('s/head', undefined, bytesOf('v'));
    for (const denied of [dir, join(dir, 's'), join(dir, 's/head')]) {
      const files = filesWith({
        list: (path) => (path === denied ? failure('EACCES') : nodeFiles.list(path)),
      });
      await rejectsWith('io', new DirectoryStore({ dir, files }).list(''));
    }
    const broken = new DirectoryStore({ dir, files: filesWith({ list: () => failure('EACCES') }) });
    await rejectsWith('io', broken.readSwap('s/head'));
    await rejectsWith('io', broken.swap('s/head', undefined, bytesOf('w')));
    assert.equal(`${(await store.readSwap('s/head'))?.bytes}`, 'v');
  },
);

inScratch(
  'a missing archive directory does not list as an empty archive, and the first create makes it',
  async (dir) => {
    const store = openObjectStore(`file:${join(dir, 'not/yet')}`);
    await rejectsWith('archive-not-found', store.list(''));
    await rejectsWith('archive-not-found', store.list('s/'));
    assert.equal(await store.size('a'), undefined);
    assert.equal(await store.readSwap('head'), undefined);
    assert.equal(existsSync(join(dir, 'not')), false);
    await store.create('a', bytesOf('a'));
    assert.deepEqual(await store.list('s/'), []);
    assert.equal(`${await readFile(join(dir, 'not/yet/a'))}`, 'a');
  },
);

inScratch(
  'a file in the place of a folder, or a folder in the place of an object, is an error',
  async (dir) => {
    const store = new DirectoryStore({ dir });
    await store.create('a', bytesOf('a'));
    await store.create('folder/b', bytesOf('b'));
    await rejectsWith('io', store.read('a/b'));
    await rejectsWith('io', store.size('a/b'));
    await rejectsWith('io', store.create('a/b', bytesOf('b')));
    await rejectsWith('io', store.readSwap('a'));
    await rejectsWith('io', store.read('folder'));
    await rejectsWith('io', store.size('folder'));
    assert.deepEqual(
      (await store.delete(['folder', 'a/b'])).map((f) => f.name),
      ['folder', 'a/b'],
    );
  },
);

inScratch('a deletion that is not durable, or that fails, is reported by name', async (dir) => {
  const plain = new DirectoryStore({ dir });
  for (const name of ['s/a', 's/b', 't/c']) await plain.create(name, bytesOf(name));
  const files = filesWith({
    remove: (path) => (path.endsWith('b') ? failure('EACCES') : nodeFiles.remove(path)),
    syncDir: (path) => (path.endsWith('/t') ? failure('EIO') : nodeFiles.syncDir(path)),
  });
  const failures = await new DirectoryStore({ dir, files }).delete(['s/a', 's/b', 't/c']);
  assert.deepEqual(
    failures.map((f) => f.name),
    ['s/b', 't/c'],
  );
});

inScratch(
  'D5: a folder that was there and is gone is an error, and nothing is made in its place',
  async (dir) => {
    const at = join(dir, 'archive');
    const store = new DirectoryStore({ dir: at });
    await store.create('s/a', bytesOf('a'));
    const tag = await store.swap('h/head', undefined, bytesOf('1'));
    await rename(at, join(dir, 'unmounted'));
    for (const isMountPoint of [false, true]) {
      if (isMountPoint) await mkdir(at);
      await rejectsWith('io', store.create('s/b', bytesOf('b')));
      await rejectsWith('io', store.swap('h/head', tag, bytesOf('2')));
      assert.deepEqual(await readdir(dir), isMountPoint ? ['archive', 'unmounted'] : ['unmounted']);
    }
    assert.deepEqual(await readdir(at), []);
  },
);

inScratch('D4: swap numbers are ordinary names, and 65 of them are kept', async (dir) => {
  const store = new DirectoryStore({ dir });
  let tag: string | undefined;
  for (let i = 1; i <= 200; i++) tag = await store.swap('h/head', tag, bytesOf(`${i}`));
  assert.equal(tag, '000000000200');
  const names = (await store.list('')).map((o) => o.name);
  assert.equal(names.length, 65);
  assert.equal(names[0], 'h/head/000000000136');
  assert.equal(names.at(-1), 'h/head/000000000200');
  assert.equal(`${await store.read(names[0]!)}`, '136');
});

inScratch('a reader whose value was trimmed between list and open reads the newer one', async (dir) => {
  const writer = new DirectoryStore({ dir });
  let tag: string | undefined = await writer.swap('head', undefined, bytesOf('1'));
  let slept = false;
  const list = async (path: string) => {
    const names = await nodeFiles.list(path);
    for (let i = 2; !slept && i <= 80; i++) tag = await writer.swap('head', tag, bytesOf(`${i}`));
    slept = true;
    return names;
  };
  const reader = new DirectoryStore({ dir, files: filesWith({ list }) });
  assert.deepEqual(await reader.readSwap('head'), { bytes: bytesOf('80'), tag: '000000000080' });
});

inScratch(
  'D4: a writer that sleeps just before its link, until its number is trimmed, is refused',
  async (dir) => {
    const awake = new DirectoryStore({ dir });
    let tag: string | undefined = await awake.swap('head', undefined, bytesOf('1'));
    const link = async (from: string, to: string) => {
      for (let i = 2; i <= 100; i++) tag = await awake.swap('head', tag, bytesOf(`${i}`));
      assert.equal(existsSync(to), false, 'the number that it will link is free again');
      return nodeFiles.link(from, to);
    };
    const sleeper = new DirectoryStore({ dir, files: filesWith({ link }) });
    await rejectsWith('cas-conflict', sleeper.swap('head', tag, bytesOf('stale')));
    assert.equal(existsSync(join(dir, 'head/000000000002')), false);
    assert.equal(`${(await awake.readSwap('head'))?.bytes}`, '100');
  },
);

inScratch(
  'D4: a writer that wins, and sleeps until its number is trimmed, is told that it won',
  async (dir) => {
    const awake = new DirectoryStore({ dir });
    const first = await awake.swap('head', undefined, bytesOf('1'));
    const link = async (from: string, to: string) => {
      await nodeFiles.link(from, to);
      let tag = '000000000002';
      for (let i = 3; i <= 100; i++) tag = await awake.swap('head', tag, bytesOf(`${i}`));
      assert.equal(existsSync(to), false);
    };
    const sleeper = new DirectoryStore({ dir, files: filesWith({ link }) });
    assert.equal(await sleeper.swap('head', first, bytesOf('2')), '000000000002');
  },
);

inScratch('a swap counts even if nothing can be trimmed', async (dir) => {
  const store = new DirectoryStore({ dir, files: filesWith({ remove: () => failure('EACCES') }) });
  let tag: string | undefined;
  for (let i = 1; i <= 70; i++) tag = await store.swap('head', tag, bytesOf(`${i}`));
  assert.equal(`${(await store.readSwap('head'))?.bytes}`, '70');
});

inScratch('a link that NFS did twice is ours, not a foreign object', async (dir) => {
  const link = async (from: string, to: string) => {
    await nodeFiles.link(from, to);
    return nodeFiles.link(from, to);
  };
  const store = new DirectoryStore({ dir, files: filesWith({ link }) });
  await store.create('a', bytesOf('a'));
  await rejectsWith('object-exists', store.create('a', bytesOf('b')));
});

inScratch('4 processes increment one counter 25 times each: 100', async (dir) => {
  const source = (path: string) => JSON.stringify(pathToFileURL(join(import.meta.dirname, path)).href);
  const program = `
    const { openObjectStore } = await import(${source('../../engine/open-object-store.ts')});
    const { increment } = await import(${source('object-store-conformance.ts')});
    const store = openObjectStore(process.argv[1]);
    for (let i = 0; i < 25; i++) await increment(store, 'counter');`;
  const children = Array.from({ length: 4 }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', program, `file:${dir}`], {
      stdio: ['ignore', 'ignore', 'inherit'],
    }),
  );
  for (const [code] of await Promise.all(children.map((child) => once(child, 'exit')))) assert.equal(code, 0);
  assert.equal(`${(await new DirectoryStore({ dir }).readSwap('counter'))?.bytes}`, '100');
});

inScratch('a URL names a directory: absolute, relative, or file:///', async (dir) => {
  const spaced = join(dir, 'a b');
  const urls = [`file:${spaced}`, `file:${relative(process.cwd(), spaced)}`, pathToFileURL(spaced).href];
  for (const [i, url] of urls.entries()) {
    const store = openObjectStore(url);
    assert.equal(store.url, url);
    await store.create(`${i}`, bytesOf(url));
    assert.ok((await stat(join(spaced, `${i}`))).isFile());
  }
  for (const url of [
    '',
    'file:',
    dirname(dir),
    's3:bucket',
    'file://host/a',
    'file:///%00',
    'file:a\0b',
    'FILE:a',
  ]) {
    await rejectsWith('archive-url', (async () => openObjectStore(url))());
  }
});
