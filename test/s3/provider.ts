/** The S3 server that tests talk to, with everything that can go wrong in front of it. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../engine/clock.ts';
import type { Timing } from '../../engine/timing.ts';
import { Faults } from './faults.ts';
import { Gate } from './gate.ts';
import { forwardTo, listen } from './http.ts';

const PROGRAM = fileURLToPath(new URL('./provider-process.ts', import.meta.url));
const BUCKET = 'pitr-test';

/** Credentials for a server that does not look at them. The SDK wants some. */
export const CREDENTIALS = { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' } as const;

export interface Provider {
  readonly gate: Gate;
  readonly faults: Faults;
  /** Of the way that has the faults. */
  readonly endpoint: string;
  /** Of the server itself, which ignores conditions. */
  readonly bareEndpoint: string;
  /** A URL for a place of its own. `more` are parameters of the URL. */
  url(more?: Readonly<Record<string, string>>): string;
  bareUrl(more?: Readonly<Record<string, string>>): string;
  close(): Promise<void>;
}

export async function startProvider(seed = 1): Promise<Provider> {
  Object.assign(process.env, { ...CREDENTIALS, ...process.env });
  const child = spawn(process.execPath, [PROGRAM], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [port] = (await once(child.stdout, 'data')) as [Buffer];
  const bareEndpoint = `http://127.0.0.1:${`${port}`.trim()}`;
  const gate = new Gate(forwardTo(bareEndpoint));
  const faults = new Faults(gate.handle, seed);
  const front = await listen(faults.answer);
  await fetch(`${bareEndpoint}/${BUCKET}`, { method: 'PUT' });
  const urlAt =
    (endpoint: string) =>
    (more: Readonly<Record<string, string>> = {}) =>
      `s3://${BUCKET}/${randomBytes(6).toString('hex')}?${new URLSearchParams({ endpoint, ...more })}`;
  return {
    gate,
    faults,
    endpoint: front.endpoint,
    bareEndpoint,
    url: urlAt(front.endpoint),
    bareUrl: urlAt(bareEndpoint),
    close: async () => {
      await front.close();
      child.stdin.end();
      if (child.exitCode === null) await once(child, 'exit');
    },
  };
}

/** Pauses between tries are a hundredth of what they are; deadlines stay. */
export const hasty: Timing = {
  ...systemClock,
  pause: (ms, signal) => sleep(signal ? ms : ms / 100, undefined, { signal }),
  random: Math.random,
};
