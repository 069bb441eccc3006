import {
  type Argument,
  Command,
  type ErrorOptions,
  Help,
  InvalidArgumentError,
  type Option,
} from 'commander';
import { PitrError } from '../engine/errors.ts';

/** Help that says what every command has in common in few lines. */
class PitrHelp extends Help {
  /** `restore [dirs...]`: that a command has options goes without saying. */
  override subcommandTerm(command: Command): string {
    return [command.name(), ...command.registeredArguments.map(humanName)].join(' ');
  }

  override visibleGlobalOptions(command: Command): Option[] {
    return super.visibleGlobalOptions(command).filter((option) => option.long !== '--version');
  }
}

const humanName = (argument: Argument): string => {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return argument.required ? `<${name}>` : `[${name}]`;
};

/**
 * Commander's Command with pitr's manners: what is wrong with the command line is thrown as the error `usage` with a hint,
 * and help carries examples. Subcommands are of this class too.
 */
export class PitrCommand extends Command {
  override createCommand(name?: string): PitrCommand {
    return new PitrCommand(name);
  }

  override createHelp(): Help {
    return Object.assign(new PitrHelp(), this.configureHelp());
  }

  /** Commander reports every mistake on the command line through this method. */
  override error(message: string, _options?: ErrorOptions): never {
    const [, what = message, guess] = /^(?:error: )?(.*?)(?:\n\((Did you mean .*)\))?$/s.exec(message) ?? [];
    const help = `see ${this.path} --help`;
    throw new PitrError('usage', {
      what,
      hint: guess === undefined ? help : `${guess.replace('Did', 'did')} Otherwise ${help}`,
    });
  }

  override help(context?: unknown): never {
    // a command that is only a folder of others was called without one of them
    if (typeof context === 'object' && context !== null && 'error' in context && context.error) {
      const names = this.commands.map((c) => c.name()).join(', ');
      throw new PitrError('usage', {
        what: `${this.path} needs a command: ${names}`,
        hint: `see ${this.path} --help`,
      });
    }
    return super.help(context as never);
  }

  /** One line for the list of commands, a paragraph for the command's own help. */
  about(summary: string, paragraph: string): this {
    return this.summary(summary).description(paragraph);
  }

  /** Pairs of a command line and what it does, shown at the end of the help. */
  examples(...examples: readonly (readonly [line: string, why: string])[]): this {
    const text = examples.map(([line, why]) => `  # ${why}\n  $ ${line}`).join('\n');
    return this.addHelpText('after', `\nExamples:\n${text}`);
  }

  /** An option that takes one of some words, which its description gets as a list. */
  choice(flags: string, description: string, words: readonly string[]): this {
    const list = words.join(', ');
    return this.option(flags, `${description}: ${list}`, (value) => {
      if (!words.includes(value)) throw new InvalidArgumentError(`It must be one of ${list}.`);
      return value;
    });
  }

  /** `pitr snapshot create` */
  get path(): string {
    const parents: string[] = [];
    for (let at: Command | null = this; at; at = at.parent) parents.unshift(at.name());
    return parents.join(' ');
  }
}
