/**
 * The official client, the second judge of an endpoint. It is an optional dependency with a binding of its own: where that is
 * missing or does not load, what needs it is skipped.
 */
import type * as Aerospike from 'aerospike';
import type { Subject } from './subject.ts';

export type Client = Aerospike.Client;
export type Package = typeof Aerospike;

/** The package, or why there is none. */
export async function loadOfficialClient(): Promise<{
  readonly aerospike?: Package;
  readonly skip: string | false;
}> {
  try {
    const { default: aerospike } = (await import('aerospike')) as unknown as { readonly default: Package };
    return { aerospike, skip: false };
  } catch (error) {
    return { skip: `the package aerospike does not load: ${error instanceof Error ? error.message : error}` };
  }
}

export const connectOfficialClient = (
  aerospike: Package,
  subject: Pick<Subject, 'host' | 'port'>,
): Promise<Client> =>
  aerospike.connect({
    hosts: [{ addr: subject.host, port: subject.port }],
    log: { level: aerospike.log.OFF },
    // a busy machine is no failure
    connTimeoutMs: 10_000,
    policies: Object.fromEntries(
      ['read', 'write', 'operate', 'remove', 'batch', 'scan', 'query', 'info'].map((name) => [
        name,
        { totalTimeout: 20_000, socketTimeout: 20_000 },
      ]),
    ),
  });
