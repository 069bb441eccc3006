import { type RunningJob, startJob } from '../../cli/bench/isolate.ts';
import { freePort } from '../free-port.ts';
import { CONTROL, type HeadWritten, type ServerFigures, serveBucketJob } from './server.ts';

/** Some, for a server that does not look at them. A profile of whoever runs the benchmark would count before them. */
const useOwnCredentials = (): void => {
  process.env.AWS_ACCESS_KEY_ID = 'bench';
  process.env.AWS_SECRET_ACCESS_KEY = 'bench';
  delete process.env.AWS_PROFILE;
};

/** The server of {@link serveBucketJob} as every process of a benchmark reaches it. */
export class BucketAt {
  readonly endpoint: string;
  #cpuSeconds = 0;

  constructor(endpoint: string) {
    this.endpoint = endpoint;
  }

  url(prefix: string): string {
    return `s3://bench/${prefix}?endpoint=${this.endpoint}`;
  }

  /** From now on each request is answered so much later, and counted from 0. */
  async begin(latencyMs: number): Promise<void> {
    this.#cpuSeconds = (await this.#control<ServerFigures>(`begin?latencyMs=${latencyMs}`)).cpuSeconds;
  }

  /** Since {@link begin}. */
  async figures(): Promise<ServerFigures> {
    const figures = await this.#control<ServerFigures>('figures');
    return { ...figures, cpuSeconds: figures.cpuSeconds - this.#cpuSeconds };
  }

  /** Catalog heads that were written since {@link begin}, in order. */
  heads(): Promise<HeadWritten[]> {
    return this.#control<HeadWritten[]>('heads');
  }

  /** Forgets all objects. */
  async empty(): Promise<void> {
    await this.#control('empty');
  }

  async #control<T>(what: string): Promise<T> {
    return (await (await fetch(`${this.endpoint}${CONTROL}${what}`)).json()) as T;
  }
}

/** The server in a process that this one has started. */
export class BenchBucket extends BucketAt {
  readonly #job: RunningJob<unknown>;

  private constructor(job: RunningJob<unknown>, endpoint: string) {
    super(endpoint);
    this.#job = job;
  }

  /** Sets the credentials of this process and of those that it starts. */
  static async start(): Promise<BenchBucket> {
    useOwnCredentials();
    const port = await freePort();
    const job = startJob(serveBucketJob, { port });
    await job.ready;
    return new BenchBucket(job, `http://127.0.0.1:${port}`);
  }

  async stop(): Promise<void> {
    this.#job.stop();
    await this.#job.result;
  }
}
