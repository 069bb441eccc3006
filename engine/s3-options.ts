/**
 * Where an archive on object storage is and how it is talked to, as one URL:
 *
 *     s3://bucket/prefix?endpoint=https://host:port&region=eu-west-1&path-style=true&requests=16
 *
 * The URL says everything but the secrets, because worker threads and other processes are given nothing else. Credentials come
 * from where every S3 tool takes them: environment, profile, instance.
 */
import { PitrError } from './errors.ts';
import { isNamePart } from './object-name.ts';

const MIB = 1024 * 1024;

export interface S3Options {
  readonly bucket: string;
  /** Without slashes at its ends; may be empty. */
  readonly prefix: string;
  /** Undefined: Amazon's own of the region. */
  readonly endpoint?: string;
  /** Undefined: that of the environment or the profile. */
  readonly region?: string;
  /** The bucket in the path instead of in the host's name. */
  readonly pathStyle: boolean;
  readonly profile?: string;
  /** The operator's word that nobody else writes here. Conditions that the provider lacks are then looked at by us alone. */
  readonly singleWriter: boolean;
  /** Storage class by top folder of the archive (`segments`, `manifests`); everything else has the bucket's default. */
  readonly storageClasses: ReadonlyMap<string, string>;
  readonly encryption?: { readonly algorithm: 'AES256' | 'aws:kms'; readonly keyId?: string };
  readonly requestsMax: number;
  readonly bytesPerSecond?: number;
  /** Objects of more than two parts are sent in parts. */
  readonly partBytes: number;
  /** Of one try of one request, without the time that its bytes take. */
  readonly timeoutMs: number;
  /** Tries of one request before its failure is reported. */
  readonly triesMax: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Parse = (options: Mutable<S3Options>, text: string) => boolean;

/** Folders of objects that are written once and read seldom: what a storage class can be given to. */
const CLASS_FOLDERS = new Set(['segments', 'manifests']);
/** Classes from which nothing can be read without asking hours before. */
const ASLEEP = new Set(['GLACIER', 'DEEP_ARCHIVE']);

const number = (text: string, min: number, max: number): number | undefined => {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  return value >= min && value <= max ? value : undefined;
};

/** Applies a number that is in its range. */
const within =
  (min: number, max: number, set: (options: Mutable<S3Options>, value: number) => void): Parse =>
  (options, text) => {
    const value = number(text, min, max);
    if (value !== undefined) set(options, value);
    return value !== undefined;
  };

const named =
  (set: (options: Mutable<S3Options>, name: string) => void): Parse =>
  (options, text) => {
    set(options, text);
    return /^[\w.@+-]+$/.test(text);
  };

const yesOrNo =
  (set: (options: Mutable<S3Options>, value: boolean) => void): Parse =>
  (options, text) => {
    if (text !== 'true' && text !== 'false') return false;
    set(options, text === 'true');
    return true;
  };

interface Parameter {
  readonly expects: string;
  readonly parse: Parse;
  /** Says how an archive is used from here and now, not where and what it is: not kept in an engine directory. */
  readonly isTuning?: true;
}

const PARAMETERS: Readonly<Record<string, Parameter>> = {
  endpoint: {
    expects: 'an http or https URL without a path',
    parse: (options, text) => {
      const url = URL.canParse(text) ? new URL(text) : undefined;
      const isPlain = url?.pathname === '/' && url.search === '' && url.username === '' && url.hash === '';
      if (!url || !isPlain || !/^https?:$/.test(url.protocol)) return false;
      options.endpoint = url.origin;
      return true;
    },
  },
  region: { expects: 'a name', parse: named((o, name) => (o.region = name)) },
  'path-style': { expects: 'true or false', parse: yesOrNo((o, value) => (o.pathStyle = value)) },
  profile: { expects: 'a name', parse: named((o, name) => (o.profile = name)) },
  'single-writer': { expects: 'true or false', parse: yesOrNo((o, value) => (o.singleWriter = value)) },
  'storage-class': {
    expects:
      'FOLDER:CLASS, separated by commas; folders segments and manifests; no class that must be woken up first',
    parse: (options, text) => {
      const pairs = text.split(',').map((pair) => pair.split(':') as [string, string?]);
      options.storageClasses = new Map(pairs as [string, string][]);
      return pairs.every(
        ([folder, name]) =>
          CLASS_FOLDERS.has(folder) && /^[A-Z_0-9]+$/.test(name ?? '') && !ASLEEP.has(name!),
      );
    },
  },
  encryption: {
    expects: 'AES256, aws:kms or aws:kms:KEY',
    parse: (options, text) => {
      const [, algorithm, keyId] = /^(AES256|aws:kms)(?::(.+))?$/.exec(text) ?? [];
      if (algorithm !== 'AES256' && algorithm !== 'aws:kms') return false;
      options.encryption = { algorithm, ...(keyId === undefined ? {} : { keyId }) };
      return keyId === undefined || algorithm === 'aws:kms';
    },
  },
  requests: {
    expects: 'requests in flight, from 1 to 256',
    parse: within(1, 256, (o, value) => (o.requestsMax = Math.floor(value))),
    isTuning: true,
  },
  bandwidth: {
    expects: 'MiB a second, from 0.1 to 100000',
    parse: within(0.1, 100_000, (o, value) => (o.bytesPerSecond = value * MIB)),
    isTuning: true,
  },
  'part-size': {
    expects: 'MiB, from 5 to 1024',
    parse: within(5, 1024, (o, value) => (o.partBytes = Math.floor(value * MIB))),
    isTuning: true,
  },
  timeout: {
    expects: 'seconds, from 0.1 to 600',
    parse: within(0.1, 600, (o, value) => (o.timeoutMs = Math.round(value * 1000))),
    isTuning: true,
  },
  tries: {
    expects: 'a number from 1 to 100',
    parse: within(1, 100, (o, value) => (o.triesMax = Math.floor(value))),
    isTuning: true,
  },
};

export type S3Parameter =
  | 'endpoint'
  | 'region'
  | 'path-style'
  | 'profile'
  | 'single-writer'
  | 'storage-class'
  | 'encryption'
  | 'requests'
  | 'bandwidth'
  | 'part-size'
  | 'timeout'
  | 'tries';

export const isS3Url = (url: string): boolean => /^s3:\/\//i.test(url);

/** @throws archive-url with what is wrong */
export function parseS3Url(url: string): S3Options {
  const refuse = (why: string, cause?: unknown): never => {
    throw new PitrError('archive-url', { url, why }, { cause });
  };
  const { bucket, prefix, query } = split(url, refuse);
  const options: Mutable<S3Options> = {
    bucket,
    prefix,
    pathStyle: false,
    singleWriter: false,
    storageClasses: new Map(),
    requestsMax: 16,
    partBytes: 16 * MIB,
    timeoutMs: 30_000,
    triesMax: 8,
  };
  for (const [name, text] of query) {
    const parameter = Object.hasOwn(PARAMETERS, name) ? PARAMETERS[name] : undefined;
    if (!parameter) refuse(`unknown parameter ${name} (known: ${Object.keys(PARAMETERS).join(', ')})`);
    else if (!parameter.parse(options, text)) refuse(`${name} must be ${parameter.expects}`);
  }
  // Other servers than Amazon's seldom have a host name for each bucket.
  if (options.endpoint !== undefined && !query.has('path-style')) options.pathStyle = true;
  if (options.endpoint !== undefined) options.region ??= 'us-east-1';
  return options;
}

function split(
  url: string,
  refuse: (why: string, cause?: unknown) => never,
): { bucket: string; prefix: string; query: URLSearchParams } {
  const [, bucket = '', path = '', search = ''] =
    /^s3:\/\/([^/?#]*)\/?([^?#]*)(?:\?([^#]*))?$/i.exec(url) ?? [];
  if (bucket.includes('@'))
    refuse('credentials do not belong into a URL: they come from the environment or a profile');
  if (!/^[a-z0-9A-Z][a-zA-Z0-9._-]{1,254}$/.test(bucket)) refuse('s3://BUCKET/PREFIX');
  const prefix = path.replace(/\/+$/, '');
  if (prefix !== '' && !prefix.split('/').every(isNamePart))
    refuse('the prefix has letters, digits, . _ - and /');
  return { bucket, prefix, query: new URLSearchParams(search) };
}

/**
 * The same place, with these parameters instead of those of the URL.
 * @throws archive-url
 */
export function withS3Parameters(url: string, parameters: Partial<Record<S3Parameter, string>>): string {
  if (!isS3Url(url)) return url;
  const [place, search = ''] = url.split('?');
  const query = new URLSearchParams(search);
  for (const [name, text] of Object.entries(parameters)) query.set(name, text);
  const joined = urlOf(place!, query);
  parseS3Url(joined);
  return joined;
}

/** Without what concerns only the process that talks to it: the form that an engine directory keeps. */
export function withoutTuning(url: string): string {
  if (!isS3Url(url)) return url;
  const [place, search = ''] = url.split('?');
  const query = new URLSearchParams(search);
  for (const [name, { isTuning }] of Object.entries(PARAMETERS)) if (isTuning) query.delete(name);
  return urlOf(place!, query);
}

const urlOf = (place: string, query: URLSearchParams): string => {
  // readable: these characters mean nothing in a query
  const text = query.toString().replaceAll('%3A', ':').replaceAll('%2F', '/').replaceAll('%2C', ',');
  return text === '' ? place : `${place}?${text}`;
};
