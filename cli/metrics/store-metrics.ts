import type { StoreObserver } from '../../engine/store-observer.ts';
import type { Metrics } from './metrics.ts';

/** Counts what the archive's stores tell of their requests. */
export const storeMetrics =
  (metrics: Metrics): StoreObserver =>
  (event) => {
    switch (event.kind) {
      case 'request': {
        const { request: kind, ms, sentBytes, receivedBytes, errors } = event;
        metrics.observe('pitr_archive_request_duration_seconds', { kind }, ms / 1000);
        for (const error of errors) metrics.count('pitr_archive_request_errors_total', { kind, error });
        if (sentBytes > 0) metrics.count('pitr_archive_sent_bytes_total', { kind }, sentBytes);
        if (receivedBytes > 0) metrics.count('pitr_archive_received_bytes_total', { kind }, receivedBytes);
        return;
      }
      case 'flight':
        metrics.add('pitr_archive_tries_in_flight', {}, event.change);
        return;
      case 'try':
        metrics.count('pitr_archive_tries_total', { kind: event.failure ?? 'ok' });
        return;
      case 'retry':
        metrics.count('pitr_archive_retries_total', { kind: event.cause });
        return;
      case 'wait':
        metrics.count('pitr_archive_wait_seconds_total', { kind: event.reason }, event.ms / 1000);
        return;
      default:
        event satisfies never;
    }
  };
