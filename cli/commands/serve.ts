import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setInterval } from 'node:timers/promises';
import { createSecureContext } from 'node:tls';
import { AerospikeServer } from '../../engine/aerospike/server/aerospike-server.ts';
import { Login } from '../../engine/aerospike/server/login.ts';
import { ERRORS, isPitrError, PitrError } from '../../engine/errors.ts';
import { type EngineIdentity, readIdentity } from '../../engine/identity.ts';
import { absoluteUrl } from '../../engine/open-object-store.ts';
import { assertNamespace } from '../../engine/record-key.ts';
import { Engine } from '../../wal/engine.ts';
import { AgentProcess } from '../agent-process.ts';
import { assertMetricsPort, withMetricsOptions } from '../metrics/metrics-options.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { renderFields } from '../render/table.ts';
import type { Runner, Session } from '../session.ts';
import { keepSpoolSettings, withSpoolOptions } from '../spool.ts';

interface ServeFlags {
  readonly listen?: string;
  readonly namespace?: readonly string[];
  readonly stream?: string;
  readonly nodes?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsCa?: string;
  readonly tlsName?: string;
  readonly user?: readonly string[];
  readonly userFile?: string;
  readonly clusterName?: string;
}

const PORT = 3000;
const PORT_MAX = 65_535;

export const registerServe = (program: PitrCommand, runner: Runner): void => {
  withMetricsOptions(withSpoolOptions(program.command('serve')))
    .about(
      "serve an engine directory on Aerospike's wire protocol",
      "Serves an engine directory to Aerospike's clients and tools; a directory that does not exist is made. With --archive it is archived " +
        'continuously, too, as pitr agent does: a database that can be restored to any instant. It listens on this machine only unless --listen says ' +
        'otherwise. What it supports, and what it refuses with which code: docs/endpoint.md. SIGTERM ends it cleanly. It logs to stderr.',
    )
    .argument('<dir>', 'engine directory')
    .option('--listen <host:port>', `address (default: 127.0.0.1:${PORT})`)
    .option('--namespace <name...>', 'namespaces that it has (default: test)')
    .option('--archive <url>', 'where the history goes, for example file:/backup/db')
    .option('--stream <name>', 'name of a new engine in the archive (default: main)')
    .option('--seal <duration>', 'how often what was written is sealed, and archived at most (default: 1s)')
    .option('--nodes <n>', 'nodes, on ports that follow each other (default: 1)')
    .option('--cluster-name <name>', 'name of the cluster (default: pitr)')
    .option('--tls-cert <file>', 'certificate, PEM: clients must use TLS')
    .option('--tls-key <file>', 'its key, PEM')
    .option('--tls-ca <file>', 'whose clients are let in, PEM: they must show a certificate')
    .option('--tls-name <name>', 'name in the certificate (default: pitr)')
    .option('--user <name:password...>', 'who may connect; --user-file keeps passwords off the command line')
    .option('--user-file <file>', 'lines of name:password')
    .examples(
      ['pitr serve data', 'a database for clients on this machine, at port 3000'],
      ['pitr serve data --archive file:/backup/db', 'with a time machine'],
      ['pitr serve data --archive file:/backup/db --metrics-port 9464', 'and metrics of its archiving'],
      ['pitr restore data --to -10m --into engine:data-old', 'ten minutes ago, as another directory'],
      ['pitr serve data-old --listen 127.0.0.1:4000 --json', 'and that served beside it'],
    )
    .action(runner.action(runServe, { heedsStop: true }));
};

const runServe = async (session: Session, dir: string, flags: ServeFlags): Promise<number> => {
  const { host, port } = addressOf(flags.listen);
  const nodes = nodesOf(flags.nodes);
  if (port > 0 && port + nodes - 1 > PORT_MAX)
    throw new PitrError('usage', {
      what: `${nodes} nodes from port ${port} on`,
      hint: `ports end at ${PORT_MAX}`,
    });
  const namespaces = [...new Set(flags.namespace ?? ['test'])];
  for (const namespace of namespaces) assertNamespace(namespace);
  const tls = await tlsOf(flags);
  const users = await usersOf(flags);
  const login = users.size > 0 ? await Login.of(users, session.clock) : undefined;
  const archive = session.config.archive === undefined ? undefined : absoluteUrl(session.config.archive);
  if (archive !== undefined) await assertMetricsPort(session);
  const identity = await ensureEngine(session, dir, archive, flags.stream);
  await keepSpoolSettings(session, dir);
  const engine = await Engine.open({ dir, clock: session.clock, sealMs: session.config.sealMs });
  let server: AerospikeServer | undefined;
  let agent: AgentProcess | undefined;
  try {
    server = await AerospikeServer.listen({
      engine,
      host,
      port,
      nodes,
      namespaces,
      clock: session.clock,
      ...(flags.clusterName === undefined ? {} : { clusterName: flags.clusterName }),
      ...(tls ? { tls } : {}),
      ...(login ? { login } : {}),
      onError: (error) =>
        session.log.error({ error: String((error as Error).message ?? error) }, 'a connection failed'),
    });
    agent = archive === undefined ? undefined : startAgent(session, dir);
    say(session, server, {
      dir: resolve(dir),
      identity,
      namespaces,
      archives: agent !== undefined,
      tls: tls !== undefined,
      users: users.size,
    });
    const failure = await stoppedOrFailed(session.stop, engine);
    // whoever watches over it starts it again, and it goes on from its log
    if (failure) throw failure;
    session.log.info('stopping: answering what has arrived');
  } finally {
    await server?.close();
    await engine.close();
    // it ships what closing has sealed
    await agent?.stop();
  }
  session.log.info({ lsn: engine.lastLsn }, 'stopped');
  return 0;
};

/** The engine's identity; a directory that is not there is made. @throws usage when it has no archive, or another */
const ensureEngine = async (
  { clock }: Session,
  dir: string,
  archive: string | undefined,
  stream: string | undefined,
): Promise<EngineIdentity> => {
  const there = await readIdentity(dir).catch((error) => {
    if (isPitrError(error, 'not-an-engine')) return undefined;
    throw error;
  });
  if (!there)
    return Engine.init(dir, {
      clock,
      ...(archive === undefined ? {} : { archive }),
      ...(stream === undefined ? {} : { stream }),
    });
  if (archive !== undefined && there.archive?.url !== archive)
    throw new PitrError('usage', {
      what: there.archive
        ? `the engine in ${dir} is archived in ${there.archive.url}, not in ${archive}`
        : `the engine in ${dir} was made without an archive`,
      hint: 'an engine has the archive that it was made with',
    });
  return there;
};

const startAgent = (session: Session, dir: string): AgentProcess => {
  const { level, format } = session.config.log;
  const { port, host, maxLag } = session.config.metrics;
  const { cwd, env } = session.surroundings;
  const metrics =
    port === undefined
      ? []
      : [
          ...['--metrics-port', `${port}`, '--metrics-host', host],
          ...(maxLag === undefined ? [] : ['--metrics-max-lag', `${maxLag}ms`]),
        ];
  return new AgentProcess({
    dir: resolve(cwd, dir),
    args: ['--log-level', level, '--log-format', format, '--seal', `${session.config.sealMs}ms`, ...metrics],
    cwd,
    env,
    finalCodes: [ERRORS.fenced.exit, ERRORS['log-rolled-back'].exit],
    onExit: (code) => session.log.error({ code }, 'the agent ended: nothing is archived until it runs again'),
  });
};

interface Served {
  readonly dir: string;
  readonly identity: EngineIdentity;
  readonly namespaces: readonly string[];
  readonly archives: boolean;
  readonly tls: boolean;
  readonly users: number;
}

/** Says where it listens, as soon as it does: whoever waits for that reads this line. */
const say = (session: Session, server: AerospikeServer, served: Served): void => {
  const { dir, identity, namespaces, archives, tls, users } = served;
  const listen = server.addresses.map(({ host, port }) => `${host}:${port}`);
  const { stream, archive } = identity;
  const data = {
    dir,
    stream,
    listen,
    namespaces,
    archive: archive?.url ?? null,
    archiving: archives,
    tls,
    users,
  };
  session.emit(data, () =>
    renderFields([
      ['Engine', dir],
      ['Listens', listen.join(', ')],
      ['Namespaces', namespaces.join(', ')],
      [
        'Archive',
        archive
          ? `${archive.url}${archives ? '' : ' (pitr agent archives it)'}`
          : 'none: nothing can be restored',
      ],
      ['Clients', [tls ? 'TLS' : 'no TLS', users > 0 ? `${users} users` : 'no login'].join(', ')],
    ]),
  );
};

/** How often it is looked whether the engine can still be written, ms. */
const FAILURE_MS = 500;

/** Resolves when it is to stop, with an error when that is because nothing can be written any more. */
const stoppedOrFailed = async (signal: AbortSignal, engine: Engine): Promise<PitrError | undefined> => {
  const looking = new AbortController();
  const failed = (async () => {
    for await (const _ of setInterval(FAILURE_MS, undefined, { signal: looking.signal, ref: false })) {
      if (engine.failed) return engine.failed;
    }
    return undefined;
  })();
  failed.catch(() => undefined);
  const error = await Promise.race([stopped(signal).then(() => undefined), failed]);
  looking.abort();
  return error;
};

const stopped = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });

const addressOf = (text: string | undefined): { host: string; port: number } => {
  if (text === undefined) return { host: '127.0.0.1', port: PORT };
  const m = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(m?.[3]);
  if (!m || port > PORT_MAX)
    throw new PitrError('usage', {
      what: `bad address "${text}"`,
      hint: 'for example 127.0.0.1:3000 or [::1]:3000',
    });
  return { host: m[1] ?? (m[2] || '127.0.0.1'), port };
};

const NODES_MAX = 8;

const nodesOf = (text = '1'): number => {
  const nodes = Number(text);
  if (!/^\d$/.test(text) || nodes < 1 || nodes > NODES_MAX)
    throw new PitrError('usage', { what: `${text} nodes`, hint: `1 to ${NODES_MAX}` });
  return nodes;
};

const tlsOf = async ({ tlsCert, tlsKey, tlsCa, tlsName }: ServeFlags) => {
  if ([tlsCert, tlsKey, tlsCa, tlsName].every((given) => given === undefined)) return undefined;
  if (tlsCert === undefined || tlsKey === undefined)
    throw new PitrError('usage', {
      what: 'TLS needs certificate and key',
      hint: 'give --tls-cert and --tls-key',
    });
  const pem = {
    cert: await readFile(tlsCert),
    key: await readFile(tlsKey),
    ...(tlsCa === undefined ? {} : { ca: await readFile(tlsCa) }),
  };
  try {
    createSecureContext(pem);
    // one that is no certificate is passed over, and nobody could ever connect
    if (pem.ca) new X509Certificate(pem.ca);
  } catch (cause) {
    throw new PitrError(
      'usage',
      {
        what: `certificate and key cannot be used: ${(cause as Error).message}`,
        hint: '--tls-cert, --tls-key and --tls-ca are PEM files, and the key is that of the certificate',
      },
      { cause },
    );
  }
  return { ...pem, ...(tlsName === undefined ? {} : { name: tlsName }) };
};

const usersOf = async ({ user = [], userFile }: ServeFlags): Promise<Map<string, string>> => {
  const lines = userFile === undefined ? [] : (await readFile(userFile, 'utf8')).split(/\r?\n/);
  const users = new Map<string, string>();
  for (const line of [...lines.filter((l) => l !== ''), ...user]) {
    const colon = line.indexOf(':');
    if (colon < 1)
      throw new PitrError('usage', { what: 'a user is given without password', hint: 'write name:password' });
    users.set(line.slice(0, colon), line.slice(colon + 1));
  }
  // whoever gives a list of users does not mean everybody
  if (users.size === 0 && userFile !== undefined)
    throw new PitrError('usage', { what: `${userFile} names no user`, hint: 'lines of name:password' });
  return users;
};
