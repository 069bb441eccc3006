import { Option } from 'commander';
import { readIdentity } from '../engine/identity.ts';
import { type S3Parameter, withS3Parameters } from '../engine/s3-options.ts';
import type { Config } from './config.ts';
import type { PitrCommand } from './pitr-command.ts';

/** The settings of object storage by their names in an archive's URL, which is where they all end up. */
const PARAMETERS: Readonly<
  Record<keyof Config['s3'], { readonly name: S3Parameter; readonly about: string }>
> = {
  endpoint: { name: 'endpoint', about: "of a server that is not Amazon's" },
  region: { name: 'region', about: 'default: that of the environment or the profile' },
  pathStyle: { name: 'path-style', about: 'true: the bucket in the path; default with an endpoint' },
  profile: { name: 'profile', about: 'of the AWS configuration files' },
  singleWriter: {
    name: 'single-writer',
    about: 'true: nobody else writes, conditional writes are not needed',
  },
  storageClass: { name: 'storage-class', about: 'segments:CLASS,manifests:CLASS' },
  encryption: { name: 'encryption', about: 'AES256, aws:kms or aws:kms:KEY' },
  requests: { name: 'requests', about: 'in flight at most (default: 16)' },
  bandwidth: { name: 'bandwidth', about: 'MiB a second at most' },
  partSize: { name: 'part-size', about: 'MiB; larger objects than two parts go up in parts (default: 16)' },
  timeout: { name: 'timeout', about: 'seconds of one try (default: 30)' },
  tries: { name: 'tries', about: 'of one request (default: 8)' },
};

/** Flags that every command takes; its help names the page that explains them. */
export const withS3Options = (program: PitrCommand): PitrCommand => {
  for (const { name, about } of Object.values(PARAMETERS))
    program.addOption(new Option(`--s3-${name} <value>`, about).hideHelp());
  return program;
};

/** The URL with the settings that somebody has set instead of its own. Other kinds of URLs stay what they are. */
export const withS3Settings = (url: string, settings: Config['s3']): string => {
  const set = Object.entries(settings).filter(([, value]) => value !== undefined);
  return withS3Parameters(
    url,
    Object.fromEntries(set.map(([key, value]) => [PARAMETERS[key as keyof Config['s3']].name, value])),
  );
};

/** How to reach the archive of a directory, with the settings of this process. */
export const archiveOptionsOf = async (
  { config }: { readonly config: Config },
  dir: string,
): Promise<{ url?: string }> => {
  const { archive } = await readIdentity(dir);
  return archive === undefined ? {} : { url: withS3Settings(archive.url, config.s3) };
};
