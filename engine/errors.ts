/**
 * Every failure that pitr can report, in one table: id → exit code, sentence, hint.
 *
 * A problem is data: code throws `new PitrError('log-corrupt', { path, … })` and tests assert the id; the sentence is
 * made here and nowhere else. Exit codes are stable. Groups: 2 usage · 10–19 engine directory · 20–29 archive ·
 * 30–39 recovery target and restore · 40–49 corrupt or foreign data · 50–59 locks and fencing · 60–69 machine ·
 * 80–89 an Aerospike cluster · 90–99 a restore into one.
 */

export type Facts = Readonly<Record<string, string | number | bigint | boolean | undefined>>;

interface ErrorKind {
  readonly exit: number;
  readonly sentence: (f: Facts) => string;
  readonly hint: (f: Facts) => string;
}

const kind = (exit: number, sentence: (f: Facts) => string, hint: (f: Facts) => string): ErrorKind => ({
  exit,
  sentence,
  hint,
});

/** What to do about a log that cannot be written, by the system's reason. */
const LOG_REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: 'free space; reads go on meanwhile. Close the engine',
  EIO: 'look at the disk. Close the engine',
  EROFS: 'make the file system writable. Close the engine',
  EACCES: 'make the directory writable. Close the engine',
  ENOENT: 'the directory was moved or deleted: put it back. Close the engine',
};

export const ERRORS = {
  // 2: the caller asked for something that cannot be
  usage: kind(
    2,
    (f) => `${f.what}`,
    (f) => `${f.hint ?? 'see pitr --help'}`,
  ),
  'config-invalid': kind(
    2,
    (f) => `configuration ${f.path ?? ''} is invalid: ${f.what}`,
    () => 'pitr doctor explains where each setting comes from',
  ),
  'bad-record': kind(
    3,
    (f) => `record refused: ${f.what}`,
    (f) => `${f.hint ?? 'limits are those of Aerospike: see engine/README.md'}`,
  ),
  'record-not-found': kind(
    4,
    (f) => `no such record: ${f.key}`,
    () => 'a record that was deleted, expired or truncated is absent; try another instant with --at',
  ),
  'record-exists': kind(
    5,
    (f) => `record exists already: ${f.key}`,
    () => 'use mode update or replace',
  ),
  'generation-mismatch': kind(
    6,
    (f) => `record ${f.key} is at generation ${f.actual}, expected ${f.expected}`,
    () => 'read the record again, then retry the write',
  ),

  // 10: the engine's own directory
  'not-an-engine': kind(
    10,
    (f) => `${f.dir} is not an engine directory: ${f.why}`,
    (f) => `${f.instead ?? `create one with: pitr init ${f.dir} --archive URL`}`,
  ),
  'engine-exists': kind(
    11,
    (f) => `${f.dir} is an engine directory already (stream ${f.stream})`,
    () => 'choose an empty directory',
  ),
  'partition-not-owned': kind(
    12,
    (f) => `partition ${f.partition} is not owned by stream ${f.stream}; its owner is ${f.owner}`,
    (f) => `send the write to ${f.owner}`,
  ),
  'engine-closed': kind(
    13,
    (f) => `the engine in ${f.dir} is closed`,
    () => 'open it again',
  ),
  'log-full': kind(
    14,
    (f) => `the local log in ${f.dir} could not be written: ${f.why}`,
    (f) =>
      `${LOG_REMEDIES[`${f.why}`] ?? LOG_REMEDIES.ENOSPC}, then open the engine again; what was acknowledged is safe`,
  ),
  'log-quota': kind(
    15,
    (f) =>
      `the write was refused after ${f.seconds} s: ` +
      (f.minFreeBytes === undefined
        ? `${f.waitingBytes} bytes of log in ${f.dir} wait for the archive, the quota is ${f.quotaBytes}`
        : `the file system of ${f.dir} has less than ${f.minFreeBytes} bytes left`),
    () =>
      'nothing of it was done; pitr status says why the archive is behind. Reads go on, and writes do when there is room',
  ),
  'store-full': kind(
    16,
    (f) => `the record store in ${f.dir} could not be written: ${f.why}`,
    () => 'free space, then open the engine again; what was acknowledged is in its log',
  ),
  'engine-gone': kind(
    17,
    (f) => `the engine directory ${f.dir} is not there any more: ${f.why}`,
    () => 'put it back, or mount it again: everything goes on where it was',
  ),
  'spill-missing': kind(
    18,
    (f) => `log file ${f.path} was spilled to ${f.target}, which is not there`,
    () => 'mount the spill directory again; nothing is lost as long as it comes back',
  ),
  'engine-busy': kind(
    50,
    (f) => `${f.dir} is in use by another process: it has an open writer`,
    () => 'stop that process, or wait until it has closed the directory',
  ),
  'agent-busy': kind(
    51,
    (f) => `stream ${f.stream} already has an archiving agent (${f.dir})`,
    (f) => `${f.hint ?? 'one agent archives one stream; stop the other first'}`,
  ),
  fenced: kind(
    52,
    (f) => `writer generation ${f.mine} of stream ${f.stream} was superseded by ${f.current}`,
    () =>
      'another agent took this stream over: stop this one. It has published nothing since; pitr status says what waits in its log',
  ),
  'cas-conflict': kind(
    53,
    (f) => `${f.name} changed while it was being updated`,
    () => 'retry',
  ),
  'handover-incomplete': kind(
    54,
    (f) => `the archive does not know the whole state of stream ${f.stream}: ${f.why}`,
    () => 'take a synthetic snapshot first, when the agent has taken its base copy (pitr snapshot list)',
  ),

  // 20: the archive
  'archive-not-found': kind(
    20,
    (f) => `no archive at ${f.url}`,
    () => 'check the URL, or create one with: pitr init DIR --archive URL',
  ),
  'archive-mismatch': kind(
    21,
    (f) => `${f.what} belongs to archive ${f.actual}, not to ${f.expected}`,
    () => 'point the command at the archive that the object came from',
  ),
  'archive-url': kind(
    22,
    (f) => `unsupported archive URL ${f.url}${f.why === undefined ? '' : `: ${f.why}`}`,
    () => 'use file:DIR or s3://BUCKET/PREFIX (docs/archive.md)',
  ),
  'object-not-found': kind(
    23,
    (f) => `${f.name} is not in the archive`,
    () => 'pitr verify lists what is missing',
  ),
  'head-missing': kind(
    23,
    (f) =>
      `the archive has lost its catalog of stream ${f.stream}: ${f.name} is gone, and LSN 1 to ${f.lsn} were archived`,
    () =>
      'put that object back, from a version or a copy of the bucket: without it nothing of the stream can be restored. To give ' +
      'that history up and begin anew, remove archived.json from the engine directory',
  ),
  'object-exists': kind(
    24,
    (f) => `${f.name} exists already; archive objects are never overwritten`,
    () => 'this is a bug or a foreign writer: run pitr verify',
  ),
  'stream-unknown': kind(
    25,
    (f) => `stream ${f.stream} is not in the archive (streams: ${f.known})`,
    () => 'pitr status lists the streams',
  ),
  'gap-unknown': kind(
    25,
    (f) => `the archive has no gap at ${f.position} (gaps: ${f.known})`,
    () => 'pitr gaps lists them',
  ),
  'stream-taken': kind(
    26,
    (f) => `stream ${f.stream} exists in the archive and belongs to another engine`,
    () => 'choose another name with --stream',
  ),
  'ownership-conflict': kind(
    27,
    (f) => `partitions ${f.partitions} are owned by stream ${f.owner}`,
    () => 'hand them over first: pitr handover FROM --to TO --partitions RANGES',
  ),
  'timeline-unknown': kind(
    28,
    (f) => `timeline ${f.timeline} is not in the archive (timelines: ${f.known})`,
    () => 'pitr chain --tree shows the timelines',
  ),
  'target-elsewhere': kind(
    28,
    (f) => `${f.target} is not on timeline ${f.timeline}, but on ${f.found}: ${f.why}`,
    (f) => `to restore it from there: --timeline ${`${f.found}`.split(', ').join(', or --timeline ')}`,
  ),
  'archive-unsafe': kind(
    29,
    (f) => `the provider of ${f.url} does not keep conditional writes: ${f.why}`,
    () =>
      'two agents could write the same history there: use another provider, or state that there is one writer ' +
      '(s3.singleWriter in pitr.yaml, --s3-single-writer true)',
  ),

  // 30: recovery targets, snapshots, restore
  'target-invalid': kind(
    30,
    (f) => `cannot read recovery target "${f.target}"`,
    () => 'use ISO time, epoch ms, -10m, lsn:STREAM/N, mark:NAME or latest',
  ),
  'target-future': kind(
    31,
    (f) => `${f.target} is not archived yet; the newest restorable instant is ${f.nearest}`,
    () => 'wait until the frontier has passed it (pitr status), or restore to latest',
  ),
  'target-nodata': kind(
    32,
    (f) => `${f.target} is not restorable; nearest before: ${f.before}, nearest after: ${f.after}`,
    () => 'pitr status lists the restorable ranges',
  ),
  'nothing-restorable': kind(
    32,
    (f) =>
      `nothing is restorable yet${f.limitedBy === undefined ? '' : `; what holds it up: ${f.limitedBy}`}`,
    () => 'is the agent of every stream running? pitr status shows their frontiers',
  ),
  'mark-unknown': kind(
    33,
    (f) => `no mark named ${f.mark} (marks: ${f.known})`,
    () => 'pitr chain lists the marks',
  ),
  'target-not-empty': kind(
    34,
    (f) => `restore target ${f.dir} is not empty`,
    () => 'restore into a new directory; a restore never overwrites',
  ),
  'target-occupied': kind(
    34,
    (f) => `the target has records already: ${f.what}`,
    () =>
      'say how: --mode exact makes it equal to the state and deletes the rest, --mode add only writes; --conflict says what happens to ' +
      'records that are there',
  ),
  'target-begun': kind(
    34,
    (f) => `${f.dir} holds another restore that was begun: ${f.begun}`,
    (f) => `${f.hint ?? 'give that instant and those options to finish it, or restore into a new directory'}`,
  ),
  'verification-failed': kind(
    35,
    (f) => `verification failed: ${f.what}`,
    (f) => `${f.hint ?? 'do not use the restored copy; run pitr verify on the archive'}`,
  ),
  inexact: kind(
    35,
    (f) =>
      `${f.records} records are not certain at ${f.target}: of ${f.missed} versions were missed, ${f.windows} changed in a window with that instant`,
    () =>
      'nothing became usable; choose another instant, leave --strict out, or list them with --inexact FILE (pitr restore)',
  ),
  'snapshot-unknown': kind(
    36,
    (f) => `no snapshot ${f.id}`,
    () => 'pitr snapshot list shows them',
  ),
  'snapshot-in-use': kind(
    37,
    (f) => `snapshot ${f.id} cannot be deleted: ${f.by} depends on it`,
    (f) =>
      `${f.by}`.startsWith('snapshot')
        ? `delete ${f.by} first`
        : `${f.by}`.startsWith('a running')
          ? 'delete it when that has ended; one that was killed counts for two minutes'
          : 'take a synthetic snapshot there first, or keep it',
  ),
  'snapshot-exists': kind(
    38,
    (f) => `a snapshot named ${f.id} exists already`,
    () => 'choose another label',
  ),
  'wait-timeout': kind(
    39,
    (f) => `gave up after ${f.seconds} s waiting for ${f.what}`,
    () => 'is an agent running? pitr status shows the frontier of every stream',
  ),
  'lease-lost': kind(
    48,
    (f) => `${f.what} lost its hold on the archive: ${f.why}`,
    () => 'objects that it had planned to read are gone; run the command again, it plans anew',
  ),

  // 40: data that is not what it claims to be
  'log-corrupt': kind(
    40,
    (f) => `log file ${f.path} is corrupt at byte ${f.offset}: ${f.why}`,
    (f) =>
      `evidence kept as ${f.evidence ?? 'is'}; restore from the archive, newest good LSN ${f.lsn ?? 'unknown'}`,
  ),
  'log-foreign': kind(
    41,
    (f) => `log file ${f.path} belongs to engine ${f.actual}, not to ${f.expected}`,
    () => 'a log directory must not be copied between engines',
  ),
  'format-version': kind(
    42,
    (f) => `${f.what} has format version ${f.version}; this pitr reads version ${f.supported}`,
    () => 'use the pitr release that wrote it, or a newer one',
  ),
  'object-corrupt': kind(
    43,
    (f) => `${f.name} is corrupt: ${f.why}`,
    () => 'pitr verify shows which instants depend on it',
  ),
  'store-corrupt': kind(
    44,
    (f) => `the record store in ${f.dir} is not readable: ${f.why}`,
    () => 'restore the engine from its archive',
  ),
  'log-gap': kind(
    45,
    (f) => `stream ${f.stream}: LSN ${f.expected} is missing, the log goes on at ${f.actual}`,
    () => 'the archive records this as a gap; a new base snapshot re-anchors the stream',
  ),
  'log-rolled-back': kind(
    46,
    (f) => `${f.path} does not continue what is archived of stream ${f.stream}: ${f.why}`,
    () =>
      'the directory is an older state that was put back, or it went on beside a copy that is archived; nothing of it is archived ' +
      'now: go on with the directory that is, or start a new history with pitr restore',
  ),

  'wire-malformed': kind(
    47,
    (f) => `bytes that Aerospike's protocol does not know: ${f.what}`,
    () => 'is the other side an Aerospike server or client, and does the port speak TLS?',
  ),

  // 80: an Aerospike cluster
  'aerospike-unreachable': kind(
    80,
    (f) => `no Aerospike node could be reached at ${f.hosts}: ${f.why}`,
    () => 'check host and port, whether the port speaks TLS, and that the node is up',
  ),
  'aerospike-login': kind(
    81,
    (f) => `${f.node} refused the login${f.user === undefined ? '' : ` of user ${f.user}`}: ${f.why}`,
    (f) =>
      f.code === 51
        ? 'Community Edition has no users: leave user and password out, or allow a cluster without security'
        : 'check user and password, and that the user may log in from here',
  ),
  'aerospike-timeout': kind(
    82,
    (f) => `${f.what} took more than ${f.ms} ms${f.node === undefined ? '' : ` at ${f.node}`}`,
    (f) =>
      f.inDoubt ? 'it may have been done: read the record before you write it again' : 'try again later',
  ),
  'aerospike-connection-lost': kind(
    83,
    (f) => `the connection to ${f.node} was lost: ${f.why}`,
    (f) =>
      f.inDoubt
        ? 'what was on its way may have been done: read the record before you write it again'
        : 'try again',
  ),
  'aerospike-result': kind(
    84,
    (f) => `${f.what} was answered with ${f.name} (${f.code})`,
    (f) =>
      f.inDoubt
        ? 'it may have been done: read the record before you write it again'
        : 'the log of the node says more',
  ),
  'aerospike-info': kind(
    85,
    (f) => `${f.node} refused info command ${f.command}: ${f.text}`,
    () => 'is the command known to this release of the server, and may the user send it?',
  ),
  'aerospike-scan-incomplete': kind(
    86,
    (f) => `the scan of ${f.namespace} did not finish: partitions ${f.partitions} are missing: ${f.why}`,
    () => 'go on from its saved points when every node is up and migrations have ended',
  ),
  'aerospike-unsupported': kind(
    87,
    (f) => `${f.node} runs Aerospike ${f.build}, ${f.what} needs ${f.needed}`,
    () => 'upgrade the node',
  ),
  'aerospike-unowned': kind(
    88,
    (f) => `no node is master of partition ${f.partition} of ${f.namespace}`,
    () => 'is the namespace configured, and are all nodes up?',
  ),
  'aerospike-closed': kind(
    89,
    (f) => `the client was closed before ${f.what}`,
    () => 'connect again',
  ),

  // 90: a restore into a cluster
  'records-refused': kind(
    90,
    (f) => `${f.count} records were not restored: ${f.causes}`,
    (f) => `${f.file} names them with cause and code; remove the cause and run the command again`,
  ),
  'restore-hazard': kind(
    91,
    (f) => `nothing was written: ${f.what}`,
    (f) => `${f.hint}`,
  ),
  'definitions-refused': kind(
    92,
    (f) => `the records are restored, definitions are not: ${f.what}`,
    (f) => `${f.hint ?? '--replace-definitions makes those that differ what they were'}`,
  ),
  'avs-running': kind(
    93,
    (f) => `Aerospike Vector Search answers at ${f.address}`,
    () =>
      'stop it: it must not see vectors before its metadata is there. The restore says when it may be started',
  ),

  // 60: the machine
  io: kind(
    60,
    (f) => `${f.op} ${f.path}: ${f.why}`,
    () => 'check that the path exists, is writable and has space',
  ),
  'archive-away': kind(
    62,
    (f) => `the archive does not answer as it should: ${f.op} ${f.name}: ${f.why}`,
    (f) => `check the network and the endpoint of ${f.url}; nothing is lost, the command can be run again`,
  ),
  'archive-throttled': kind(
    63,
    (f) => `the archive asks for fewer requests: ${f.op} ${f.name}: ${f.why}`,
    () => 'lower s3.requests or s3.bandwidth, seal less often, or ask the provider for a higher limit',
  ),
  'archive-denied': kind(
    64,
    (f) => `the archive refuses access: ${f.op} ${f.name}: ${f.why}`,
    () =>
      'check credentials, profile and the permissions listed in docs/archive.md; pitr doctor shows what is allowed',
  ),
  'clock-skew': kind(
    65,
    (f) => `the archive refuses requests because this machine's clock is wrong: ${f.why}`,
    () => 'set the clock (NTP), then run the command again',
  ),
  'bucket-unknown': kind(
    66,
    (f) => `there is no bucket ${f.bucket} at ${f.url}`,
    () => 'create the bucket, or check its name, the endpoint and the region',
  ),
  'bucket-elsewhere': kind(
    66,
    (f) => `bucket ${f.bucket} is in another region: ${f.why}`,
    (f) =>
      f.region === undefined
        ? 'set s3.region, or region= in the URL'
        : `set s3.region to ${f.region}, or add region=${f.region} to the URL`,
  ),
  'archive-refused': kind(
    67,
    (f) => `the archive refuses the request: ${f.op} ${f.name}: ${f.why}`,
    () => 'pitr doctor --archive URL shows what the provider supports',
  ),
  'port-unusable': kind(
    68,
    (f) => `cannot listen on ${f.host}, port ${f.port}: ${f.why}`,
    (f) =>
      f.code === 'EADDRINUSE'
        ? 'choose another port, or 0 for any that is free (--metrics-port)'
        : 'choose another address (--metrics-host) or port (--metrics-port)',
  ),
  interrupted: kind(
    61,
    (f) => `${f.what} was interrupted`,
    () => 'run the command again',
  ),
  internal: kind(
    70,
    (f) => `internal error: ${f.what}`,
    () => 'please report this with the command and its output',
  ),
} as const satisfies Record<string, ErrorKind>;

export type ErrorId = keyof typeof ERRORS;

/** The one error class. `id` is stable and what callers branch on; `facts` are the values that the sentence names. */
export class PitrError extends Error {
  readonly id: ErrorId;
  readonly facts: Facts;

  constructor(id: ErrorId, facts: Facts = {}, options?: { cause?: unknown }) {
    super(ERRORS[id].sentence(facts), options);
    this.name = 'PitrError';
    this.id = id;
    this.facts = facts;
  }

  /** Process exit code, stable across releases. */
  get exitCode(): number {
    return ERRORS[this.id].exit;
  }

  /** What to do next, one sentence. */
  get hint(): string {
    return ERRORS[this.id].hint(this.facts);
  }
}

/** True when `error` is a {@link PitrError} with this id. */
export const isPitrError = (error: unknown, id: ErrorId): error is PitrError =>
  error instanceof PitrError && error.id === id;

/** Failures of whatever stores the archive: they say nothing about what is stored. */
const STORAGE_IDS: ReadonlySet<ErrorId> = new Set([
  'io',
  'archive-away',
  'archive-throttled',
  'archive-denied',
  'archive-refused',
  'clock-skew',
  'bucket-unknown',
  'bucket-elsewhere',
]);

/** True when the archive's storage could not be asked; what it holds may be as it should be. */
export const isStorageError = (error: unknown): boolean =>
  error instanceof PitrError && STORAGE_IDS.has(error.id);
