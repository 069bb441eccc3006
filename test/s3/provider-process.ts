/** A real S3 server as a process of its own: fauxqs, in memory, on loopback. Says its port, ends with its parent. */
import type { AddressInfo } from 'node:net';
import { buildApp } from 'fauxqs';

const app = buildApp({ logger: false });
await app.listen({ host: '127.0.0.1', port: 0 });
const { port } = app.server.address() as AddressInfo;
process.stdout.write(`${port}\n`);
process.stdin.resume().on('end', () => process.exit());
