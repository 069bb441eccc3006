/**
 * Tables, field blocks and trees in plain text. Every renderer returns lines without a newline at the end.
 *
 * Cells may hold what somebody stored in a record, so control characters are shown escaped: one in a user key must neither
 * break a table nor reach the terminal as an escape sequence.
 */

export interface Column {
  readonly title: string;
  /** Numbers are 'right'. Default 'left'. */
  readonly align?: 'left' | 'right';
}

export interface TreeNode {
  readonly label: string;
  readonly children?: readonly TreeNode[];
}

const GAP = '  ';
/** A left-aligned column is not cut below this while another one can still give. */
const LEFT_WIDTH_MIN = 8;

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });
const PLAIN = /^[\x20-\x7e]*$/;
const ZERO_WIDTH = /^[\p{Mark}\p{Default_Ignorable_Code_Point}]+$/u;
/** East Asian wide and fullwidth blocks, and what terminals draw as an emoji picture: two cells each. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}]|\ufe0f|\p{Emoji_Presentation}|\p{Regional_Indicator}/u;

/** Terminal cells that `text` takes. */
export function displayWidth(text: string): number {
  if (PLAIN.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += graphemeWidth(segment);
  return width;
}

function graphemeWidth(grapheme: string): number {
  if (ZERO_WIDTH.test(grapheme)) return 0;
  return WIDE.test(grapheme) ? 2 : 1;
}

/** Cuts `text` to `width` cells; what was cut is marked with '…'. */
export function shorten(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let kept = '';
  let used = 0;
  for (const { segment } of graphemes.segment(text)) {
    const next = used + graphemeWidth(segment);
    if (next > width - 1) break;
    kept += segment;
    used = next;
  }
  return width > 0 ? `${kept}…` : '';
}

/**
 * A table of `width` cells at most. When it does not fit, the widest left-aligned column is cut first, then any; a table
 * with more columns than cells is cut at the margin.
 */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  { width = 80 }: { width?: number } = {},
): string {
  const titles = columns.map((column) => escapeControls(column.title));
  const cells = rows.map((row) => columns.map((_, i) => escapeControls(row[i] ?? '')));
  const widths = fitWidths(columns, [titles, ...cells], width);
  const line = (values: readonly string[]): string => {
    const padded = values.map((value, i) => pad(shorten(value, widths[i]!), widths[i]!, columns[i]!.align));
    return shorten(padded.join(GAP).trimEnd(), width);
  };
  return [line(titles), line(widths.map((w) => '─'.repeat(w))), ...cells.map(line)].join('\n');
}

function fitWidths(
  columns: readonly Column[],
  lines: readonly (readonly string[])[],
  width: number,
): number[] {
  // A cell wider than the table would only make the loop below longer.
  const widths = columns.map((_, i) =>
    lines.reduce((most, line) => Math.max(most, Math.min(width, displayWidth(line[i]!))), 1),
  );
  const total = (): number => widths.reduce((sum, w) => sum + w, GAP.length * (columns.length - 1));
  const widest = (isCandidate: (i: number) => boolean): number | undefined =>
    widths.reduce<number | undefined>(
      (best, w, i) => (isCandidate(i) && (best === undefined || w > widths[best]!) ? i : best),
      undefined,
    );
  while (total() > width) {
    const victim =
      widest((i) => columns[i]!.align !== 'right' && widths[i]! > LEFT_WIDTH_MIN) ??
      widest((i) => widths[i]! > 1);
    if (victim === undefined) break;
    widths[victim]!--;
  }
  return widths;
}

function pad(text: string, width: number, align: Column['align']): string {
  const blanks = ' '.repeat(Math.max(0, width - displayWidth(text)));
  return align === 'right' ? blanks + text : text + blanks;
}

/**
 * A block of `key: value` lines with the values in one column. A pair without a value is left out. Long values go on below
 * themselves at a space; a word that is too long, such as a URL, stays whole so that it can be copied, and so does a line of a
 * command that goes on after a backslash.
 */
export function renderFields(
  pairs: readonly (readonly [key: string, value: string | undefined])[],
  { width = 80 }: { width?: number } = {},
): string {
  const shown = pairs.flatMap(([key, value]) => (value === undefined ? [] : [[`${key}:`, value] as const]));
  const keyWidth = shown.reduce((most, [key]) => Math.max(most, displayWidth(key)), 0) + 1;
  const valueWidth = Math.max(1, width - keyWidth);
  return shown
    .flatMap(([key, value]) =>
      value
        .split('\n')
        .flatMap((line) =>
          line.endsWith(' \\') ? [escapeControls(line)] : wrap(escapeControls(line), valueWidth),
        )
        .map((line, i) => (pad(i === 0 ? key : '', keyWidth, 'left') + line).trimEnd()),
    )
    .join('\n');
}

function wrap(text: string, width: number): string[] {
  if (displayWidth(text) <= width) return [text];
  const lines: string[] = [];
  let current = '';
  for (const word of text.split(' ')) {
    const joined = current === '' ? word : `${current} ${word}`;
    if (current !== '' && displayWidth(joined) > width) {
      lines.push(current);
      current = word;
    } else {
      current = joined;
    }
  }
  return [...lines, current];
}

/** Roots at the margin, what is below them on `├─` and `└─`. */
export function renderTree(nodes: readonly TreeNode[]): string {
  const lines: string[] = [];
  const branch = (children: readonly TreeNode[], prefix: string): void => {
    children.forEach((node, i) => {
      const isLast = i === children.length - 1;
      lines.push(`${prefix}${isLast ? '└─ ' : '├─ '}${escapeControls(node.label)}`);
      branch(node.children ?? [], prefix + (isLast ? '   ' : '│  '));
    });
  };
  for (const root of nodes) {
    lines.push(escapeControls(root.label));
    branch(root.children ?? [], '');
  }
  return lines.join('\n');
}

/** Also the bidirectional overrides, with which a stored key could reorder the line that it stands in. */
function escapeControls(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, (char) => {
    const short = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }[char];
    return short ?? `\\u${char.codePointAt(0)!.toString(16).padStart(4, '0')}`;
  });
}
