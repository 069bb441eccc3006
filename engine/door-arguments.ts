import { z } from 'zod';
import { PitrError } from './errors.ts';
import { PartitionSet } from './partition.ts';

/** What each verb of the door takes. Anything else is refused before the engine sees it: a request may come from anybody's script. */
const name = z.string().min(1).max(255);
const instant = z.int().min(0);
const partitions = z
  .string()
  .max(32 * 1024)
  .transform((text) => PartitionSet.parse(text));

const VERBS = {
  status: z.unknown(),
  seal: z.strictObject({ apply: z.boolean().optional() }).nullish(),
  mark: z.strictObject({ name: z.string() }),
  truncate: z.strictObject({
    namespace: z.string(),
    set: z.string().optional(),
    beforeMs: instant.optional(),
  }),
  release: z.strictObject({ partitions, peer: name }),
  acquire: z.strictObject({
    partitions,
    peer: name,
    epoch: z.int().min(1),
    afterTs: instant,
    file: z.string().min(1),
    digests: z
      .array(z.strictObject({ sum: z.string().regex(/^[0-9a-f]{32}$/), records: z.int().min(0) }))
      .min(1)
      .max(256)
      .optional(),
  }),
};

/** @throws usage */
export const doorArguments = <V extends keyof typeof VERBS>(
  verb: V,
  args: unknown,
): z.infer<(typeof VERBS)[V]> => {
  const checked = VERBS[verb].safeParse(args);
  if (checked.success) return checked.data as z.infer<(typeof VERBS)[V]>;
  const what = checked.error.issues
    .map((issue) => [issue.path.join('.'), issue.message].filter((part) => part !== '').join(': '))
    .join('; ');
  throw new PitrError('usage', { what: `bad arguments of ${verb}: ${what}` });
};
