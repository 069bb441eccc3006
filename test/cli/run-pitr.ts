import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { displayWidth } from '../../cli/render/table.ts';

export const PROGRAM = fileURLToPath(new URL('../../cli/pitr.ts', import.meta.url));

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts the real command line. Settings of whoever runs the tests do not reach it. */
export function startPitr(args: readonly string[], { cwd, env = {} }: RunOptions): ChildProcess {
  const clean = Object.entries(process.env).filter(([name]) => !name.startsWith('PITR_'));
  return spawn(process.execPath, [PROGRAM, ...args], { cwd, env: { ...Object.fromEntries(clean), ...env } });
}

export async function outcomeOf(child: ChildProcess): Promise<Outcome> {
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.setEncoding('utf8').on('data', (text) => {
      texts[name] += text;
    });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('close', resolve);
  });
  return { code, ...texts };
}

export const runPitr = (args: readonly string[], options: RunOptions): Promise<Outcome> =>
  outcomeOf(startPitr(args, options));

/** Runs a command that must succeed, with --json, and gives its object. */
// biome-ignore lint/suspicious/noExplicitAny: the output is checked by the test that asks for it
export async function jsonOf(args: readonly string[], options: RunOptions): Promise<any> {
  const { code, stdout, stderr } = await runPitr([...args, '--json'], options);
  assert.equal(code, 0, `pitr ${args.join(' ')}: ${stdout}${stderr}`);
  assert.equal(stdout.trimEnd().split('\n').length, 1, 'one line');
  const parsed = JSON.parse(stdout);
  assert.equal(parsed.pitr, 1);
  return parsed;
}

/** Runs a command that must fail with an error of this id and its exit code. */
export async function errorOf(
  args: readonly string[],
  options: RunOptions,
  id: string,
  exitCode: number,
): Promise<{ message: string; hint: string; facts: Record<string, unknown> }> {
  const { code, stdout, stderr } = await runPitr([...args, '--json'], options);
  const context = `pitr ${args.join(' ')}: ${stdout}${stderr}`;
  assert.deepEqual([code, stderr], [exitCode, ''], context);
  const { error, pitr } = JSON.parse(stdout);
  assert.deepEqual([pitr, error.id, error.exitCode], [1, id, exitCode], context);
  assert.ok(error.message !== '' && error.hint !== '');
  return error;
}

/** Output for people fits into 80 columns. */
export function assertNarrow(text: string): void {
  for (const line of text.split('\n'))
    assert.ok(displayWidth(line) <= 80, `${displayWidth(line)} columns: ${line}`);
}
