import type { Locks } from './directory-lock.ts';
import type { Files } from './files.ts';
import type { Store } from './store.ts';

/** What the engine needs of its store: {@link Store}, or what a simulation has in its place. */
export type RecordStore = Pick<
  Store,
  | 'dir'
  | 'meta'
  | 'get'
  | 'peek'
  | 'changesMax'
  | 'apply'
  | 'applySync'
  | 'flushed'
  | 'scan'
  | 'slice'
  | 'namespaces'
  | 'close'
>;

/** The machine below an engine directory. What is left out is this machine's own. */
export interface Machine {
  readonly files?: Files;
  readonly locks?: Locks;
  /** Opens or creates the store of an engine directory. @throws store-corrupt, engine-busy */
  readonly openStore?: (engineDir: string) => RecordStore;
}
