/**
 * A strict reader of Prometheus' text format 0.0.4, written from its documentation, and the complaints that `promtool check metrics` has
 * about names. Shares nothing with what makes the text.
 */
import assert from 'node:assert/strict';

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: Sample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/;
const LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*/;
const NUMBER = /^(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]Inf|NaN)$/;
const SUFFIXES: Readonly<Record<string, readonly string[]>> = { histogram: ['_bucket', '_sum', '_count'] };

/** Fails on everything that Prometheus refuses, and on more. */
export function parsePrometheus(text: string): Map<string, Family> {
  assert.ok(text.endsWith('\n') && !text.includes('\r'), 'lines end with \\n, the last one too');
  const families = new Map<string, Family>();
  const seen = new Set<string>();
  let current: { name: string; help: string } | Family | undefined;
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, keyword, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
    if (keyword === 'HELP') {
      assert.ok(!families.has(name), `${name}: HELP once, and all of a family together`);
      assert.match(name, new RegExp(`${NAME.source}$`));
      assert.doesNotMatch(rest, /\\[^\\n]/, 'escapes of HELP');
      current = { name, help: rest };
    } else if (keyword === 'TYPE') {
      assert.ok(current && !('samples' in current) && current.name === name, `${name}: TYPE after its HELP`);
      assert.match(rest, /^(gauge|counter|histogram)$/);
      current = { ...current, type: rest, samples: [] };
      families.set(name, current);
    } else {
      const sample = sampleOf(line);
      assert.ok(current && 'samples' in current, `${line}: HELP and TYPE first`);
      const { name: family, type } = current;
      const names = (SUFFIXES[type] ?? ['']).map((suffix) => family + suffix);
      assert.ok(names.includes(sample.name), `${sample.name} is not of ${family}`);
      const series = seriesOf(sample);
      assert.ok(!seen.has(series), `twice: ${series}`);
      seen.add(series);
      current.samples.push(sample);
    }
  }
  for (const family of families.values()) check(family);
  return families;
}

export const seriesOf = ({ name, labels }: Pick<Sample, 'name' | 'labels'>): string =>
  `${name}${JSON.stringify(Object.entries(labels).sort())}`;

function sampleOf(line: string): Sample {
  let rest = line;
  const take = (pattern: RegExp, what: string): string => {
    const found = pattern.exec(rest)?.[0];
    assert.ok(found !== undefined, `${what} expected at ${JSON.stringify(rest)} in ${line}`);
    rest = rest.slice(found.length);
    return found;
  };
  const name = take(NAME, 'a name');
  const labels: Record<string, string> = {};
  if (rest.startsWith('{')) {
    take(/^\{/, '{');
    while (!rest.startsWith('}')) {
      const label = take(LABEL, 'a label');
      assert.ok(!(label in labels) && !label.startsWith('__'), `label ${label}`);
      take(/^="/, '="');
      const raw = take(/^(?:[^"\\\n]|\\["\\n])*/, 'a value');
      labels[label] = raw.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
      take(/^"/, 'a quote');
      if (!rest.startsWith('}')) take(/^,/, 'a comma');
    }
    take(/^\}/, '}');
  }
  take(/^ /, 'a blank');
  assert.match(rest, NUMBER, line);
  return { name, labels, value: Number(rest.replace('Inf', 'Infinity')) };
}

function check({ name, type, samples }: Family): void {
  if (type === 'counter') for (const s of samples) assert.ok(s.value >= 0, `${name} is ${s.value}`);
  if (type !== 'histogram') return;
  const keyOf = ({ labels }: Sample): string =>
    JSON.stringify(
      Object.entries(labels)
        .filter(([label]) => label !== 'le')
        .sort(),
    );
  for (const [key, group] of Map.groupBy(samples, keyOf)) {
    const of = (suffix: string): Sample[] => group.filter((s) => s.name === name + suffix);
    const buckets = of('_bucket').map(
      (s) => [Number(s.labels.le?.replace('Inf', 'Infinity')), s.value] as const,
    );
    assert.ok(buckets.length > 1, `${name}${key} has buckets`);
    buckets.forEach(([bound, count], i) => {
      const [lower, below] = buckets[i - 1] ?? [Number.NEGATIVE_INFINITY, 0];
      assert.ok(bound > lower && count >= below, `${name}${key}: buckets rise`);
    });
    assert.equal(buckets.at(-1)![0], Number.POSITIVE_INFINITY);
    assert.deepEqual(
      of('_count').map((s) => s.value),
      [buckets.at(-1)![1]],
      '+Inf is the count',
    );
    assert.equal(of('_sum').length, 1);
  }
}

/** What `promtool check metrics` complains about. */
export function lint({ name, type, help }: Family): string[] {
  const complaints: string[] = [];
  const complainIf = (is: boolean, what: string): void => void (is && complaints.push(`${name}: ${what}`));
  complainIf(help.trim() === '', 'no help text');
  complainIf(type === 'counter' && !name.endsWith('_total'), 'counters end in _total');
  complainIf(type !== 'counter' && name.endsWith('_total'), 'only counters end in _total');
  complainIf(/_(bucket|count|sum)$/.test(name), 'the suffix is for histograms and summaries');
  complainIf(/(gauge|counter|histogram|summary)/.test(name), 'names do not have their type');
  complainIf(name.includes(':') || /[A-Z]/.test(name), 'names are snake case');
  complainIf(
    /_(milliseconds|microseconds|minutes|hours|days|kilobytes|megabytes|kibibytes|mebibytes|gibibytes|bits|percent)(_|$)/.test(
      name,
    ),
    'base units',
  );
  complainIf(/_(s|ms|us|ns|sec|b|kb|mb|gb|tb|m|h|d)(_|$)/.test(name), 'units are not abbreviated');
  return complaints;
}
