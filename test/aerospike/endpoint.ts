import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Engine } from '../../wal/engine.ts';

export interface EndpointOptions {
  readonly nodes?: number;
  readonly namespaces?: readonly string[];
  readonly faults?: boolean;
  readonly stallMs?: number;
}

/** Our server in a process of its own, over an engine directory that is gone with it. */
export class Endpoint {
  readonly dir: string;
  readonly #parent: string;
  readonly #options: EndpointOptions;
  #child: ChildProcess | undefined;
  #addresses: readonly { readonly host: string; readonly port: number }[] = [];

  private constructor(parent: string, options: EndpointOptions) {
    this.#parent = parent;
    this.dir = join(parent, 'engine');
    this.#options = options;
  }

  static async start(options: EndpointOptions = {}): Promise<Endpoint> {
    const endpoint = new Endpoint(mkdtempSync(join(tmpdir(), 'pitr-endpoint-')), options);
    await Engine.init(endpoint.dir);
    await endpoint.restart();
    return endpoint;
  }

  get ports(): number[] {
    return this.#addresses.map(({ port }) => port);
  }

  get port(): number {
    return this.ports[0];
  }

  /** Anonymous memory of the server, bytes: what it keeps beside files that are mapped. */
  get anonymousBytes(): number {
    const status = readFileSync(`/proc/${this.#child?.pid}/status`, 'utf8');
    return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
  }

  /** Starts the server again, after {@link end} or for the first time. */
  async restart(): Promise<void> {
    const options = JSON.stringify({ dir: this.dir, ...this.#options });
    const child = fork(join(import.meta.dirname, 'server-process.ts'), [options]);
    this.#child = child;
    const [started] = (await once(child, 'message')) as [{ addresses: { host: string; port: number }[] }];
    this.#addresses = started.addresses;
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const child = this.#child;
    if (!child) return null;
    this.#child = undefined;
    const exited = once(child, 'exit') as Promise<[number | null]>;
    child.kill(signal);
    return (await exited)[0];
  }

  async close(): Promise<void> {
    await this.end();
    rmSync(this.#parent, { recursive: true });
  }
}
