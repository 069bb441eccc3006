import { type Options, type Params, SingleBar } from 'cli-progress';
import { type Clock, systemClock } from '../../engine/clock.ts';
import { shorten } from './table.ts';
import { formatCount, formatDuration } from './units.ts';

/** What a progress bar needs of stderr. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): boolean;
}

export interface ProgressOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly stream?: ProgressStream;
  readonly clock?: Clock;
}

const BAR_CELLS = 20;
/** Before this much time a rate is noise, and an estimate made of it alarming. */
const RATE_AFTER_MS = 500;
/** cli-progress returns to a remembered cursor position when it stops, which would be above lines logged meanwhile. */
const CURSOR_SAVE = '\x1b7';
const CURSOR_RESTORE = '\x1b8';

/**
 * A progress bar on stderr for work that a person watches; silent when nobody does. It removes itself when stopped: what
 * remains on the screen is the result. Redraws keep the process alive, so call {@link stop} in a `finally`.
 */
export class Progress {
  readonly #stream: ProgressStream;
  readonly #clock: Clock;
  readonly #isShown: boolean;
  #bar: SingleBar | undefined;

  constructor({ json, quiet, stream = process.stderr, clock = systemClock }: ProgressOptions) {
    this.#stream = stream;
    this.#clock = clock;
    this.#isShown = stream.isTTY === true && !json && !quiet;
  }

  /** Begins a bar of `total` steps, in place of the one that is shown. */
  start(total: number, label: string): void {
    if (!this.#isShown) return;
    this.stop();
    const startMs = this.#clock.nowMs();
    this.#bar = new SingleBar({
      format: (_options: Options, params: Params, payload: { detail: string }) =>
        // One cell short of the edge: some terminals wrap when the last one is written.
        shorten(
          progressLine(label, params.value, params.total, this.#clock.nowMs() - startMs, payload.detail),
          params.maxWidth - 1,
        ),
      stream: withoutCursorMemory(this.#stream),
      clearOnComplete: true,
      // false would turn wrapping off for the whole terminal, and leave it off when the process is killed.
      linewrap: true,
      // Else it takes SIGINT for itself, and the first Ctrl-C would do nothing but remove the bar.
      gracefulExit: false,
    });
    this.#bar.start(total, 0, { detail: '' });
  }

  /** `done` is absolute, in the unit of `total`; `detail` is shown at the end of the line. */
  update(done: number, detail?: string): void {
    this.#bar?.update(done, detail === undefined ? {} : { detail });
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}

/** `restore ██████░░░░  60%  600/1,000  200/s  2 s left  segment 7`. The rate is that of the whole run, so it is calm. */
export function progressLine(
  label: string,
  done: number,
  total: number,
  elapsedMs: number,
  detail: string,
): string {
  const share = total > 0 ? Math.min(1, Math.max(0, done / total)) : 1;
  const filled = Math.round(share * BAR_CELLS);
  const bar = '█'.repeat(filled) + '░'.repeat(BAR_CELLS - filled);
  // Rounded down: 100% is a claim that nothing is left.
  const percent = `${Math.floor(share * 100)}%`.padStart(4);
  const parts = [`${label} ${bar} ${percent}`, `${formatCount(done)}/${formatCount(total)}`];
  if (elapsedMs >= RATE_AFTER_MS && done > 0) {
    parts.push(`${formatCount((done * 1000) / elapsedMs)}/s`);
    if (done < total) parts.push(`${formatDuration(((total - done) * elapsedMs) / done)} left`);
  }
  if (detail !== '') parts.push(detail);
  return parts.join('  ');
}

function withoutCursorMemory(stream: ProgressStream): NodeJS.WritableStream {
  const facade: ProgressStream = {
    isTTY: true,
    get columns() {
      return stream.columns;
    },
    write: (text) => text === CURSOR_SAVE || text === CURSOR_RESTORE || stream.write(text),
  };
  // cli-progress and node:readline use no more of a stream than this.
  return facade as unknown as NodeJS.WritableStream;
}
