import { PitrError } from '../../engine/errors.ts';
import type { PitrCommand } from '../pitr-command.ts';
import type { Session } from '../session.ts';
import { AgentMetrics } from './agent-metrics.ts';
import { MetricsServer } from './metrics-server.ts';

/** Adds the options of an agent's metrics; they are settings, see cli/config.ts. */
export const withMetricsOptions = (command: PitrCommand): PitrCommand =>
  command
    .option(
      '--metrics-port <port>',
      'tell Prometheus here, at /metrics, and monitors at /healthz; 0: any port',
    )
    .option('--metrics-host <host>', 'address for that (default: 127.0.0.1)')
    .option('--metrics-max-lag <duration>', 'how far behind is still well for /healthz (default: as status)');

/** An agent's metrics, and where they can be read. */
export interface ServedMetrics {
  readonly metrics: AgentMetrics;
  close(): Promise<void>;
}

/** Listens when a port is set. @throws port-unusable */
export const serveMetrics = async ({ config, clock, log }: Session): Promise<ServedMetrics | undefined> => {
  const { port, host, maxLag } = config.metrics;
  if (port === undefined) return undefined;
  const metrics = await AgentMetrics.create(clock, maxLag);
  const onError = (error: unknown): void =>
    log.error({ error: String((error as Error).message ?? error) }, 'metrics failed');
  const server = await MetricsServer.listen(metrics, { host, port, onError });
  log.info({ url: server.url }, 'metrics');
  return {
    metrics,
    close: async () => {
      metrics.close();
      await server.close();
    },
  };
};

/**
 * For a process whose agent is a child that is going to listen: fails where a person sees it, and not in a log at every start of it.
 * @throws port-unusable, usage for port 0, which would be another one after each start
 */
export const assertMetricsPort = async ({ config }: Session): Promise<void> => {
  const { port, host } = config.metrics;
  if (port === undefined) return;
  if (port === 0)
    throw new PitrError('usage', {
      what: 'a metrics port of 0: the agent of serve may be started again, and would have another one then',
      hint: 'choose a port',
    });
  const never = () => Promise.reject(new Error('nothing to tell'));
  const told = { contentType: '', text: never, health: never };
  await (await MetricsServer.listen(told, { host, port, onError: () => undefined })).close();
};
