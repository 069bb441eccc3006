import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createLogger, type LogFormat } from '../../cli/log.ts';
import { emit, reportError, toPitrError } from '../../cli/output.ts';
import { PitrError } from '../../engine/errors.ts';

class Sink {
  text = '';

  write(text: string): void {
    this.text += text;
  }
}

function printed(data: unknown, json: boolean): string {
  const stdout = new Sink();
  emit({ command: 'status', data, text: () => 'all well' }, { json, stdout });
  return stdout.text;
}

function reported(error: unknown, json: boolean, env: Record<string, string> = {}) {
  const [stdout, stderr] = [new Sink(), new Sink()];
  const exitCode = reportError(error, { json, stdout, stderr, env });
  return { exitCode, stdout: stdout.text, stderr: stderr.text };
}

const thrownBy = (run: () => unknown): unknown => {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
};

test('text is the text and one newline', () => {
  assert.equal(printed({ lsn: 1n }, false), 'all well\n');
});

test('JSON is one object on one line, with every bigint as a string', () => {
  assert.equal(
    printed({ lsn: 2n ** 60n, streams: [{ lsn: 1n }] }, true),
    '{"pitr":1,"command":"status","lsn":"1152921504606846976","streams":[{"lsn":"1"}]}\n',
  );
});

test('data that is no object, or has the names of the envelope, does not break the envelope', () => {
  assert.deepEqual(JSON.parse(printed([1, 2], true)), { pitr: 1, command: 'status', data: [1, 2] });
  assert.deepEqual(JSON.parse(printed({ pitr: 9, command: 'x', a: 1 }, true)), {
    pitr: 1,
    command: 'status',
    a: 1,
  });
});

test('an error is a sentence and a hint on stderr, with its own exit code', () => {
  assert.deepEqual(reported(new PitrError('archive-not-found', { url: 'file:/a' }), false), {
    exitCode: 20,
    stdout: '',
    stderr:
      'pitr: no archive at file:/a\nhint: check the URL, or create one with: pitr init DIR --archive URL\n',
  });
});

test('with --json an error is one object on stdout, facts included', () => {
  const { exitCode, stdout, stderr } = reported(
    new PitrError('log-gap', { stream: 'a', expected: 5n, actual: 7n }),
    true,
  );
  const { error, pitr } = JSON.parse(stdout);
  assert.equal(pitr, 1);
  assert.deepEqual([exitCode, error.exitCode, error.id], [45, 45, 'log-gap']);
  assert.deepEqual(error.facts, { stream: 'a', expected: '5', actual: '7' });
  assert.ok(error.message !== '' && error.hint !== '');
  assert.equal(stderr, '');
});

test('an unknown error is internal, and its stack is shown only to who asks for it', () => {
  const bug = new TypeError('x is not a function');
  const quiet = reported(bug, false);
  assert.equal(quiet.exitCode, 70);
  assert.match(quiet.stderr, /^pitr: internal error: x is not a function\nhint: .*\n$/);
  assert.match(reported(bug, false, { PITR_DEBUG: '1' }).stderr, /output\.test\.ts:\d+/);
  assert.match(reported(bug, true, { PITR_DEBUG: '1' }).stderr, /output\.test\.ts:\d+/);
  assert.equal(reported('a string', false).exitCode, 70);
});

test('a system error is io, also as the cause of another; a bad argument to Node is not', () => {
  const missing = thrownBy(() => readFileSync('/no/such/file'));
  const problem = toPitrError(missing);
  assert.deepEqual([problem.id, problem.exitCode, problem.facts.path], ['io', 60, '/no/such/file']);
  assert.equal(problem.message, 'open /no/such/file: no such file or directory (ENOENT)');
  assert.equal(problem.cause, missing);
  const full = Object.assign(new Error('ENOSPC'), { code: 'ENOSPC', errno: -28, syscall: 'write' });
  assert.match(reported(full, false).stderr, /no space left on device/);
  assert.equal(toPitrError(new TypeError('fetch failed', { cause: full })).id, 'io');
  // @ts-expect-error: what a bug looks like at run time
  assert.equal(toPitrError(thrownBy(() => readFileSync({}))).id, 'internal');
  assert.equal(toPitrError(AbortSignal.abort().reason).id, 'interrupted');
});

test('a cause that leads back to itself ends', () => {
  const loop = new Error('loop');
  loop.cause = loop;
  assert.equal(toPitrError(loop).id, 'internal');
});

function logged(format: LogFormat, write: (log: ReturnType<typeof createLogger>) => void): string {
  const destination = new Sink();
  write(createLogger({ level: 'info', format, destination }));
  return destination.text;
}

test('a pretty log line is time, level, message and pairs, and stays one line', () => {
  const line = logged('pretty', (log) => {
    log.debug('not shown');
    log.child({ stream: 'a' }).info({ lsn: 2n ** 60n, why: 'two words' }, 'sealed\n\x1b[2Jx');
  });
  assert.match(
    line,
    /^\d{4}-\d\d-\d\dT[\d:.]+Z INFO {2}sealed\\n\\u001b\[2Jx stream=a lsn=1152921504606846976 why="two words"\n$/,
  );
  const failure = logged('pretty', (log) => log.error(new PitrError('usage', { what: 'bad flag' })));
  assert.match(failure, /ERROR bad flag err="PitrError: bad flag"\n$/);
});

test('a JSON log line is pino with level names, ISO time and the stack of an error', () => {
  const entry = JSON.parse(logged('json', (log) => log.warn({ err: new Error('no'), lsn: 1n }, 'slow')));
  assert.deepEqual([entry.level, entry.msg, entry.lsn, entry.err.message], ['warn', 'slow', '1', 'no']);
  assert.match(entry.err.stack, /output\.test/);
  assert.match(entry.time, /^\d{4}-.*Z$/);
});
