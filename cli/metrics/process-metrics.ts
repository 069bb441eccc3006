import { memoryOf } from '../bench/memory.ts';
import { version } from '../version.ts';
import type { Metrics } from './metrics.ts';

/** What this process is, and what it takes. */
export const tellProcess = (metrics: Metrics): void => {
  tellBuild(metrics);
  const memory = memoryOf('self');
  metrics.set('pitr_process_memory_bytes', {}, memory ? memory.rssAnonMB * 1e6 : process.memoryUsage.rss());
  const { user, system } = process.cpuUsage();
  metrics.forget(['pitr_process_cpu_seconds_total']);
  for (const [kind, microseconds] of Object.entries({ user, system }))
    metrics.count('pitr_process_cpu_seconds_total', { kind }, microseconds / 1e6);
  metrics.setInstant('pitr_process_start_timestamp_seconds', {}, Math.round(performance.timeOrigin));
};

export const tellBuild = (metrics: Metrics): void =>
  metrics.set('pitr_build_info', { version, node: process.versions.node }, 1);
