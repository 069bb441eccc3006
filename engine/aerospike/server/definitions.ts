import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import * as z from 'zod';
import type { LogDefinition } from '../../commit-log.ts';
import { PitrError } from '../../errors.ts';
import { type Files, nodeFiles } from '../../files.ts';
import { writeFileDurably } from '../../identity.ts';

export const DEFINITIONS_FILE = 'definitions.json';
const DEFINITIONS_VERSION = 1;
/** Of the protocol: secondary indexes of a namespace. */
const INDEXES_MAX = 256;
const UDF_BYTES_MAX = 1024 * 1024;
const UDFS_MAX = 256;

const indexShape = z.strictObject({
  namespace: z.string(),
  /** '' for an index over all sets. */
  set: z.string(),
  name: z.string(),
  bin: z.string(),
  type: z.string(),
  indexType: z.string(),
  /** Base64, as they came; '' for none. */
  context: z.string(),
  expression: z.string(),
});
export type IndexDefinition = Readonly<z.infer<typeof indexShape>>;

const udfShape = z.strictObject({ name: z.string(), type: z.string(), content: z.base64() });
/** A module; content in base64. */
export type UdfDefinition = Readonly<z.infer<typeof udfShape>>;

const truncationShape = z.strictObject({ namespace: z.string(), set: z.string(), lutMs: z.number() });
/** The newest truncation of a set, or with '' of a namespace: ms since 1970. */
export type Truncation = Readonly<z.infer<typeof truncationShape>>;

const shape = z.strictObject({
  version: z.literal(DEFINITIONS_VERSION),
  indexes: z.array(indexShape),
  udfs: z.array(udfShape),
  truncations: z.array(truncationShape),
  /** How often each kind has changed. */
  changes: z.strictObject({ sindex: z.number(), UDF: z.number(), truncate: z.number() }),
});
type Content = z.infer<typeof shape>;
export type DefinitionKind = keyof Content['changes'];

const EMPTY: Content = {
  version: DEFINITIONS_VERSION,
  indexes: [],
  udfs: [],
  truncations: [],
  changes: { sindex: 0, UDF: 0, truncate: 0 },
};

/** Told of a definition that is new, changed, or (body null) gone. */
export type NoteDefinition = (definition: Omit<LogDefinition, 'kind' | 'lsn' | 'ts'>) => Promise<unknown>;

const sindexNote = (namespace: string, name: string, text: string | null) =>
  ({ what: 'sindex', namespace, name, body: text === null ? null : Buffer.from(text) }) as const;

const base64Or = (text: string): string => text || 'null';

/** An entry of `sindex-list` (reference: aerospike-wire.md 4.6). */
export const indexText = (i: IndexDefinition): string =>
  i.indexType === 'set'
    ? `ns=${i.namespace}:indexname=${i.name}:set=${i.set}:indextype=set`
    : `ns=${i.namespace}:indexname=${i.name}:set=${i.set || 'NULL'}:bin=${i.bin || 'null'}:type=${i.type}` +
      `:indextype=${i.indexType}:context=${base64Or(i.context)}:exp=${base64Or(i.expression)}:state=RW`;

/**
 * Secondary indexes and UDF modules as they were defined, and the truncations that were asked for: `definitions.json` in the engine
 * directory, replaced as a whole and durably before a change is answered. Indexes are not built and modules never run.
 */
export class Definitions {
  readonly #dir: string;
  readonly #files: Files;
  readonly #noted: NoteDefinition;
  #content: Content;
  #writing: Promise<void> = Promise.resolve();

  private constructor(dir: string, files: Files, noted: NoteDefinition, content: Content) {
    this.#dir = dir;
    this.#files = files;
    this.#noted = noted;
    this.#content = content;
  }

  /** `noted`: told of every change, so that the archive has it. @throws object-corrupt, format-version, io */
  static async open(dir: string, noted: NoteDefinition, files: Files = nodeFiles): Promise<Definitions> {
    const path = join(dir, DEFINITIONS_FILE);
    let bytes: Buffer;
    try {
      bytes = await files.read(path);
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code;
      if (code === 'ENOENT') return new Definitions(dir, files, noted, structuredClone(EMPTY));
      throw new PitrError('io', { op: 'read', path, why: code }, { cause });
    }
    return new Definitions(dir, files, noted, decodeDefinitions(bytes.toString('utf8'), path));
  }

  get indexes(): readonly IndexDefinition[] {
    return this.#content.indexes;
  }

  get udfs(): readonly UdfDefinition[] {
    return this.#content.udfs;
  }

  get truncations(): readonly Truncation[] {
    return this.#content.truncations;
  }

  /** How often a kind has changed: what `smd-info` calls committed_tid. */
  changes(kind: DefinitionKind): number {
    return this.#content.changes[kind];
  }

  /** False: there is another one of that name, or there are too many. The same once more is no change. */
  async addIndex(index: IndexDefinition): Promise<'added' | 'same' | 'taken' | 'full'> {
    const { indexes } = this.#content;
    const old = indexes.find((i) => i.namespace === index.namespace && i.name === index.name);
    if (old) return JSON.stringify(old) === JSON.stringify(index) ? 'same' : 'taken';
    if (indexes.filter((i) => i.namespace === index.namespace).length >= INDEXES_MAX) return 'full';
    await this.#change('sindex', { indexes: [...indexes, index] });
    await this.#noted(sindexNote(index.namespace, index.name, indexText(index)));
    return 'added';
  }

  async removeIndex(namespace: string, name: string): Promise<boolean> {
    const indexes = this.indexes.filter((i) => i.namespace !== namespace || i.name !== name);
    if (indexes.length === this.indexes.length) return false;
    await this.#change('sindex', { indexes });
    await this.#noted(sindexNote(namespace, name, null));
    return true;
  }

  /** False: it is too large, or there are too many. */
  async putUdf(udf: UdfDefinition): Promise<boolean> {
    const others = this.udfs.filter((u) => u.name !== udf.name);
    if (others.length >= UDFS_MAX || udf.content.length > UDF_BYTES_MAX) return false;
    await this.#change('UDF', { udfs: [...others, udf] });
    await this.#noted({
      what: 'udf',
      namespace: null,
      name: udf.name,
      body: Buffer.from(udf.content, 'base64'),
    });
    return true;
  }

  async removeUdf(name: string): Promise<boolean> {
    const udfs = this.udfs.filter((u) => u.name !== name);
    if (udfs.length === this.udfs.length) return false;
    await this.#change('UDF', { udfs });
    await this.#noted({ what: 'udf', namespace: null, name, body: null });
    return true;
  }

  async addTruncation(truncation: Truncation): Promise<void> {
    const { namespace, set } = truncation;
    const others = this.truncations.filter((t) => t.namespace !== namespace || t.set !== set);
    await this.#change('truncate', { truncations: [...others, truncation] });
  }

  async removeTruncation(namespace: string, set: string): Promise<void> {
    const truncations = this.truncations.filter((t) => t.namespace !== namespace || t.set !== set);
    if (truncations.length < this.truncations.length) await this.#change('truncate', { truncations });
  }

  async #change(kind: DefinitionKind, change: Partial<Content>): Promise<void> {
    const { changes } = this.#content;
    this.#content = { ...this.#content, ...change, changes: { ...changes, [kind]: changes[kind] + 1 } };
    // one after another: the newest content is written last
    const written = this.#writing.then(() =>
      writeFileDurably(this.#dir, DEFINITIONS_FILE, encodeDefinitions(this.#content), this.#files),
    );
    this.#writing = written.catch(() => undefined);
    await written;
  }
}

const checksum = (content: Content): string =>
  (crc32(JSON.stringify(content)) >>> 0).toString(16).padStart(8, '0');

export const encodeDefinitions = (content: Content): string =>
  `${JSON.stringify({ ...content, crc32: checksum(content) }, undefined, 2)}\n`;

/** @throws object-corrupt, format-version */
export const decodeDefinitions = (text: string, name: string): Content => {
  const refuse = (why: string): PitrError => new PitrError('object-corrupt', { name, why });
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    throw refuse('it is no JSON');
  }
  const { crc32: stated, ...content } = (found ?? {}) as Content & { crc32?: unknown };
  if (typeof content.version === 'number' && content.version > DEFINITIONS_VERSION)
    throw new PitrError('format-version', {
      what: name,
      version: content.version,
      supported: DEFINITIONS_VERSION,
    });
  const parsed = shape.safeParse(content);
  if (!parsed.success) throw refuse(`has a bad ${parsed.error.issues[0].path.join('.')}`);
  if (stated !== checksum(parsed.data)) throw refuse('does not match its checksum');
  return parsed.data;
};

/** What `udf-list` says of a module's content. */
export const udfHash = ({ content }: UdfDefinition): string =>
  createHash('sha1').update(Buffer.from(content, 'base64')).digest('hex');
