import { CommanderError } from 'commander';
import { ERRORS } from '../engine/errors.ts';
import { buildProgram } from './program.ts';
import { Runner } from './session.ts';

/** What a shell reports of a program that a closed pipe ended (128 + SIGPIPE). Not 0: what was to be written did not arrive. */
const EXIT_BROKEN_PIPE = 141;

const { stdout, stderr, env } = process;
for (const stream of [stdout, stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT_BROKEN_PIPE);
    throw error;
  });

const runner = new Runner({ stdout, stderr, env, cwd: process.cwd() });
const program = buildProgram(runner);
let isStopping = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => {
    isStopping = true;
    if (runner.interrupt() === 'impatient') process.exit(ERRORS.interrupted.exit);
  });
// started with a channel, as `serve` starts its agent: when that process is gone, however it ended, this one ends, too
if (process.connected) {
  process.once('disconnect', () => {
    isStopping = true;
    runner.interrupt();
  });
  // the channel alone is no reason to stay
  process.channel?.unref();
}

/** What was cut short goes on in the background; once everything is out, nothing waits for it. */
const exitWhenWritten = (): unknown => stdout.write('', () => stderr.write('', () => process.exit()));

try {
  if (process.argv.length <= 2) program.outputHelp();
  else await program.parseAsync();
  process.exitCode = runner.exitCode;
  if (isStopping) exitWhenWritten();
} catch (error) {
  if (error instanceof CommanderError) {
    // help or version was asked for and is printed
    process.exitCode = error.exitCode;
  } else {
    const json = program.opts().json === true || process.argv.includes('--json');
    process.exitCode = runner.report(error, json);
    if (isStopping) exitWhenWritten();
  }
}
