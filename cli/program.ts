import { registerAgent } from './commands/agent.ts';
import { registerBench } from './commands/bench.ts';
import { registerChain } from './commands/chain.ts';
import { registerCompact } from './commands/compact.ts';
import { registerDoctor } from './commands/doctor.ts';
import { registerGaps } from './commands/gaps.ts';
import { registerGet } from './commands/get.ts';
import { registerHandover } from './commands/handover.ts';
import { registerInit } from './commands/init.ts';
import { registerMark } from './commands/mark.ts';
import { registerRestore } from './commands/restore.ts';
import { registerServe } from './commands/serve.ts';
import { registerSnapshot } from './commands/snapshot.ts';
import { registerStatus } from './commands/status.ts';
import { registerVerify } from './commands/verify.ts';
import { CONFIG_FILE } from './config.ts';
import { LOG_FORMATS, LOG_LEVELS } from './log.ts';
import { withS3Options } from './object-storage.ts';
import { PitrCommand } from './pitr-command.ts';
import type { Runner } from './session.ts';
import { version } from './version.ts';

/** Adds a command to the program. */
export type Register = (program: PitrCommand, runner: Runner) => void;

/** Groups of `pitr --help`, in its order. A new command is one line here. */
const COMMANDS: readonly (readonly [group: string, commands: readonly Register[]])[] = [
  [
    'Protect:',
    [
      registerInit,
      registerServe,
      registerAgent,
      registerMark,
      registerSnapshot,
      registerCompact,
      registerHandover,
    ],
  ],
  ['Recover:', [registerRestore, registerGet]],
  ['Watch:', [registerStatus, registerGaps, registerChain, registerVerify, registerDoctor, registerBench]],
];

const TEXT = `Point-in-time recovery: every write of an engine goes to its log, an agent ships the log to an \
archive, and any instant that the archive covers can be restored or looked at.`;

const AFTER = `
Examples:
  # make an engine directory and its archive
  $ pitr init data --archive file:/backup/db
  # archive it continuously
  $ pitr agent data
  # what can be restored now, and how far behind the archive is
  $ pitr status data
  # name the present, so that you can return to it
  $ pitr mark before-deploy data
  # the state of ten minutes ago, as a new engine directory
  $ pitr restore --archive file:/backup/db --to -10m --into engine:data-old
  # one record as it was
  $ pitr get shop/users/42 --archive file:/backup/db --at mark:before-deploy

Times:  latest, -10m, 2026-11-21T10:00:00Z, epoch ms, mark:NAME, lsn:STREAM/N
Exit:   0 done, 2 bad usage, 7 not green, others: cli/README.md
Bucket: --archive s3://BUCKET/PREFIX and --s3-… settings: docs/archive.md
Config: flags, then PITR_… variables, then ${CONFIG_FILE}, then defaults`;

/** The whole command line, ready to parse. */
export function buildProgram(runner: Runner): PitrCommand {
  const program = new PitrCommand('pitr');
  program
    .description(TEXT)
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'explain a command, with examples')
    .option('--json', 'print one JSON object instead of text')
    .option('-q, --quiet', 'no progress bars, no remarks')
    .option('--config <file>', `settings (default: ./${CONFIG_FILE})`)
    .option('--log-level <level>', LOG_LEVELS.join(', '))
    .option('--log-format <format>', LOG_FORMATS.join(', '))
    .usage('<command> [options]')
    .helpCommand(false)
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
    .addHelpText('after', AFTER);
  withS3Options(program);
  for (const [group, commands] of COMMANDS) {
    program.commandsGroup(group);
    for (const register of commands) register(program, runner);
  }
  return program;
}
