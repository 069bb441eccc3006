import { createRequire } from 'node:module';

/** Of this release. The package is found by its own name, so that it is found from cli/ and from dist/cli/. */
export const { version } = createRequire(import.meta.url)('pitr/package.json') as { version: string };
