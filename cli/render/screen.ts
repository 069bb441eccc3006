import { shorten } from './table.ts';

/** What a screen needs of stdout. */
export interface ScreenStream {
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
}

const HIDE_CURSOR = '\x1b[?25l';
const SHOW_CURSOR = '\x1b[?25h';
const CLEAR = '\x1b[2J';
const HOME = '\x1b[H';
const CLEAR_LINE_END = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';

/**
 * Text that is drawn over itself on a terminal. Each frame is one write that overwrites line by line and erases what is left of
 * the last one: nothing is blank in between, so nothing flickers.
 */
export class Screen {
  readonly #stream: ScreenStream;
  #isDrawn = false;

  constructor(stream: ScreenStream) {
    this.#stream = stream;
  }

  /** What does not fit is cut: a line that wraps, or one too many, would move everything. */
  draw(text: string): void {
    const { columns = 80, rows = 24 } = this.#stream;
    const lines = text.split('\n');
    const cut = lines.length - (rows - 1);
    const shown = cut > 0 ? [...lines.slice(0, rows - 2), `… ${cut + 1} more lines`] : lines;
    const begin = this.#isDrawn ? HOME : `${HIDE_CURSOR}${CLEAR}${HOME}`;
    this.#isDrawn = true;
    const drawn = shown.map((line) => `${shorten(line, columns)}${CLEAR_LINE_END}\n`);
    this.#stream.write(`${begin}${drawn.join('')}${CLEAR_BELOW}`);
  }

  /** Leaves the last frame where it is, and gives the cursor back. */
  end(): void {
    if (this.#isDrawn) this.#stream.write(SHOW_CURSOR);
    this.#isDrawn = false;
  }
}
