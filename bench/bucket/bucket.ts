/** Why the protocol says no. */
export type Refusal =
  | 'NoSuchKey'
  | 'NoSuchUpload'
  | 'MethodNotAllowed'
  | 'PreconditionFailed'
  | 'InvalidRange';

export interface Stored {
  readonly content: Buffer;
  /** With its quotes; never the same twice, which the protocol allows. */
  readonly etag: string;
  /** Headers `x-amz-meta-…`. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

interface Upload {
  readonly key: string;
  readonly metadata: Stored['metadata'];
  readonly parts: Map<number, Buffer>;
}

/** What must be true of the object that is there now. */
export interface Condition {
  readonly isAbsent: boolean;
  readonly etag: string | undefined;
}

/** One bucket in memory. Every call is one step: of two that race one comes first. */
export class Bucket {
  readonly #objects = new Map<string, Stored>();
  readonly #uploads = new Map<string, Upload>();
  #count = 0;

  empty(): void {
    this.#objects.clear();
    this.#uploads.clear();
  }

  /** Unfinished ones below a prefix. */
  uploads(prefix: string): { readonly key: string; readonly id: string }[] {
    return [...this.#uploads].flatMap(([id, { key }]) => (key.startsWith(prefix) ? [{ key, id }] : []));
  }

  get(key: string): Stored | undefined {
    return this.#objects.get(key);
  }

  put(
    key: string,
    content: Buffer,
    metadata: Stored['metadata'],
    { isAbsent, etag }: Condition,
  ): Stored | Refusal {
    const now = this.#objects.get(key);
    if (isAbsent && now) return 'PreconditionFailed';
    if (etag !== undefined && !now) return 'NoSuchKey';
    if (etag !== undefined && now?.etag !== etag) return 'PreconditionFailed';
    return this.#set(key, content, metadata);
  }

  remove(key: string): void {
    this.#objects.delete(key);
  }

  /** A page of the names after `after`, in the order of their code units. */
  list(
    prefix: string,
    after: string,
    most: number,
  ): { keys: { key: string; bytes: number }[]; next: string | undefined } {
    const all = [...this.#objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
    const keys = all
      .slice(0, most)
      .map((key) => ({ key, bytes: this.#objects.get(key)?.content.length ?? 0 }));
    return { keys, next: all.length > most ? keys.at(-1)?.key : undefined };
  }

  begin(key: string, metadata: Stored['metadata']): string {
    const id = `upload-${++this.#count}`;
    this.#uploads.set(id, { key, metadata, parts: new Map() });
    return id;
  }

  putPart(id: string, number: number, content: Buffer): Stored | Refusal {
    const upload = this.#uploads.get(id);
    if (!upload) return 'NoSuchUpload';
    upload.parts.set(number, content);
    return { content, etag: `"part-${++this.#count}"`, metadata: {} };
  }

  complete(key: string, id: string): Stored | Refusal {
    const upload = this.#uploads.get(id);
    if (upload?.key !== key) return 'NoSuchUpload';
    this.#uploads.delete(id);
    const parts = [...upload.parts].sort(([a], [b]) => a - b).map(([, content]) => content);
    return this.#set(key, Buffer.concat(parts), upload.metadata);
  }

  abort(id: string): void {
    this.#uploads.delete(id);
  }

  #set(key: string, content: Buffer, metadata: Stored['metadata']): Stored {
    const stored = { content, etag: `"${(++this.#count).toString(16).padStart(32, '0')}"`, metadata };
    this.#objects.set(key, stored);
    return stored;
  }
}
