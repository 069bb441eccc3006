import { PitrError } from '../engine/errors.ts';
import { decodeImage, encodeImage } from '../engine/image.ts';
import { assertNamespace, assertSet } from '../engine/record-key.ts';

/** Which records a restore takes, and under which names it gives them. Plain data: it goes to worker threads. */
export interface Selection {
  readonly namespaces?: readonly string[];
  readonly sets?: readonly string[];
  /** Bins to keep; records that have none of them are left out. */
  readonly bins?: readonly string[];
  /** Inclusive ranges as text. */
  readonly partitions?: string;
  /** Digests, 40 hex digits each. */
  readonly digests?: readonly string[];
  readonly renameNamespaces?: Readonly<Record<string, string>>;
  readonly renameSets?: Readonly<Record<string, string>>;
}

/** True when the result is not the whole state: it cannot go on as the same history. */
export const isPartial = (s: Selection): boolean =>
  Object.values(s).some((v) => v !== undefined && (typeof v === 'string' || Object.keys(v).length > 0));

/** True when records get new names: they come in another order than they were in. */
export const isRenaming = ({ renameNamespaces, renameSets }: Selection): boolean =>
  Object.keys(renameNamespaces ?? {}).length + Object.keys(renameSets ?? {}).length > 0;

/** The new name of one; its own when it has none. */
export const renamed = (names: Readonly<Record<string, string>> | undefined, name: string): string =>
  names && Object.hasOwn(names, name) ? names[name] : name;

/** @throws bad-record for new names that no record can have */
export const assertNewNames = ({ renameNamespaces, renameSets }: Selection): void => {
  for (const name of Object.values(renameNamespaces ?? {})) assertNamespace(name);
  for (const name of Object.values(renameSets ?? {})) assertSet(name);
};

/** `from=to` pairs as given on the command line. @throws usage */
export const parseRenames = (pairs: readonly string[]): Record<string, string> =>
  Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) throw new PitrError('usage', { what: `bad rename "${pair}"`, hint: 'write OLD=NEW' });
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );

/** The image with the chosen bins only, or undefined when none is left. Stored key and bytes of the bins stay as they are. */
export const selectBins = (image: Uint8Array, bins: ReadonlySet<string>): Buffer | undefined => {
  const { key, bins: all } = decodeImage(image);
  const kept = new Map([...all].filter(([name]) => bins.has(name)));
  return kept.size === 0 ? undefined : encodeImage({ key, bins: kept });
};
