/** What happened last, in order, for who has to find out why. */
const LINES_MAX = 60;

export class Trace {
  readonly #lines: string[] = [];

  say(what: string): void {
    this.#lines.push(`${Date.now()} ${what}`);
    if (this.#lines.length > LINES_MAX) this.#lines.shift();
    if (process.env.PITR_CAPTURE_TRACE === '1') console.error(this.#lines.at(-1));
  }

  toString(): string {
    return this.#lines.join('\n');
  }
}
