import type { PitrError } from '../../engine/errors.ts';
import type { Archive } from '../../wal/archive.ts';
import { toPitrError } from '../output.ts';
import { readStatusFacts, type StatusFacts, type StatusOptions } from '../status.ts';

/** How often, ms. Snapshots and verifications are hours apart, and a look costs some requests. */
const LOOK_MS = 30_000;

/**
 * Keeps what only the archive knows of a timeline at hand: looks in the background, so that nobody who asks waits for the archive or
 * makes requests to it. What was seen last stays when a look fails.
 */
export class ArchiveWatch {
  readonly #archive: Archive;
  readonly #options: StatusOptions;
  readonly #onError: (error: PitrError) => void;
  readonly #timer: NodeJS.Timeout;
  #looking: Promise<void> | undefined;
  #facts: StatusFacts | undefined;
  #failure: PitrError | undefined;

  constructor(archive: Archive, options: StatusOptions, onError: (error: PitrError) => void) {
    this.#archive = archive;
    this.#options = options;
    this.#onError = onError;
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
    void this.#look();
  }

  /** As of the last look that succeeded; undefined before the first. */
  get facts(): StatusFacts | undefined {
    return this.#facts;
  }

  /** Why the last look failed; undefined when it did not. */
  get failure(): PitrError | undefined {
    return this.#failure;
  }

  /** Looks now: something has changed here. A look that is on its way may have been too early for it. Never rejects. */
  async lookAgain(): Promise<void> {
    await this.#looking;
    await this.#look();
  }

  /** A look that is on its way ends by itself. */
  close(): void {
    clearInterval(this.#timer);
  }

  /** One at a time: an archive that is slow is not asked more often than it answers. */
  #look(): Promise<void> {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #lookOnce(): Promise<void> {
    try {
      this.#facts = await readStatusFacts(this.#archive, this.#options);
      this.#failure = undefined;
    } catch (error) {
      this.#failure = toPitrError(error);
      this.#onError(this.#failure);
    }
  }
}
