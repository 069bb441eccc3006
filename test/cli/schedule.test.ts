import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { cronRuns, Schedule } from '../../cli/schedule.ts';

const START_MS = Date.UTC(2026, 10, 21, 10, 0, 0);
/** Lets promises settle; timers are mocked, setImmediate is not. */
const settle = () => new Promise((resolve) => setImmediate(resolve));
const everyMs = (stepMs: number) => (afterMs: number) => afterMs - (afterMs % stepMs) + stepMs;
const fail = (error: unknown): never => {
  throw error;
};

function useClock(t: TestContext) {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: START_MS });
  return async (ms: number) => {
    t.mock.timers.tick(ms);
    await settle();
  };
}

test('runs at every instant of the pattern, each derived from the last, without drift', async (t) => {
  const pass = useClock(t);
  const dueMs: number[] = [];
  const schedule = new Schedule({
    // Relative to the last: had it been given the time of the run, the late timers below would add up.
    nextRun: (afterMs) => afterMs + 1000,
    job: async (due) => void dueMs.push(due - START_MS),
    onError: fail,
  });
  for (let i = 0; i < 6; i++) await pass(700);
  assert.deepEqual(dueMs, [1000, 2000, 3000, 4000]);
  assert.equal(schedule.nextMs, START_MS + 5000);
  await schedule.stop();
});

test('a run that comes due while the previous is still going is skipped and counted', async (t) => {
  const pass = useClock(t);
  let going = 0;
  let mostGoing = 0;
  let runs = 0;
  let finish = (): void => {};
  const schedule = new Schedule({
    nextRun: everyMs(1000),
    job: async () => {
      runs++;
      mostGoing = Math.max(mostGoing, ++going);
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      going--;
    },
    onError: fail,
  });
  for (let i = 0; i < 3; i++) await pass(1000);
  assert.deepEqual([runs, schedule.skippedCount], [1, 2]);
  finish();
  await settle();
  await pass(1000);
  assert.deepEqual([runs, schedule.skippedCount, mostGoing], [2, 2, 1]);
  finish();
  await schedule.stop();
});

test('a failed run is reported and the next one is made, whether it rejects or throws', async (t) => {
  const pass = useClock(t);
  const errors: unknown[] = [];
  let runs = 0;
  const schedule = new Schedule({
    nextRun: everyMs(1000),
    job: () => {
      if (++runs === 1) throw new Error('thrown');
      return Promise.reject(new Error('rejected'));
    },
    onError: (error) => errors.push((error as Error).message),
  });
  await pass(1000);
  await pass(1000);
  assert.deepEqual(errors, ['thrown', 'rejected']);
  await schedule.stop();
});

test('stop waits for the run that is going, and none starts after it', async (t) => {
  const pass = useClock(t);
  let finish = (): void => {};
  let runs = 0;
  const schedule = new Schedule({
    nextRun: everyMs(1000),
    job: () => {
      runs++;
      return new Promise<void>((resolve) => {
        finish = resolve;
      });
    },
    onError: fail,
  });
  await pass(1000);
  let stopped = false;
  const stopping = schedule.stop().then(() => {
    stopped = true;
  });
  await pass(5000);
  assert.deepEqual([stopped, runs, schedule.nextMs], [false, 1, undefined]);
  finish();
  await stopping;
});

test('a machine that slept makes one run at waking, not one for each that it missed', async (t) => {
  const pass = useClock(t);
  let nowMs = START_MS;
  let runs = 0;
  const schedule = new Schedule({
    nextRun: everyMs(1000),
    job: async () => void runs++,
    onError: fail,
    clock: { nowMs: () => nowMs },
  });
  nowMs = START_MS + 100_500;
  await pass(1000);
  assert.deepEqual([runs, schedule.skippedCount, schedule.nextMs], [1, 0, START_MS + 101_000]);
  nowMs += 500;
  await pass(500);
  assert.equal(runs, 2);
  await schedule.stop();
});

test('a wait longer than setTimeout can hold does not fire early', async (t) => {
  const pass = useClock(t);
  const waitMs = 60 * 86_400_000;
  let runs = 0;
  const schedule = new Schedule({
    nextRun: (afterMs) => afterMs + waitMs,
    job: async () => void runs++,
    onError: fail,
  });
  await pass(waitMs - 1);
  assert.equal(runs, 0);
  await pass(1);
  assert.equal(runs, 1);
  await schedule.stop();
});

test('a clock that was far ahead and is put right does not postpone the next run', async (t) => {
  const pass = useClock(t);
  let nowMs = START_MS + 10 * 365 * 86_400_000;
  const schedule = new Schedule({
    nextRun: everyMs(3_600_000),
    job: async () => {},
    onError: fail,
    clock: { nowMs: () => nowMs },
  });
  nowMs = START_MS;
  await pass(30_000);
  assert.equal(schedule.nextMs, START_MS + 3_600_000);
  await schedule.stop();
});

test('cron patterns have five or six fields; a date, nonsense and what never comes due are refused', () => {
  const minutely = cronRuns('*/5 * * * *');
  assert.equal(minutely(START_MS), START_MS + 300_000);
  assert.equal(minutely(START_MS + 299_999), START_MS + 300_000);
  assert.equal(cronRuns('*/10 * * * * *')(START_MS), START_MS + 10_000);
  for (const pattern of ['', 'nope', '61 * * * *', '2026-01-01T00:00:00', '0 0 30 2 *']) {
    assert.throws(() => cronRuns(pattern), JSON.stringify(pattern));
  }
});
