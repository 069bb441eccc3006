import { PARTITIONS } from '../partition.ts';
import { malformed } from './malformed.ts';

/** Bytes of a bitmap with one bit for each partition. */
const BITMAP_BYTES = PARTITIONS / 8;

/** What `replicas` says of a namespace: for each replica, 0 being the master, one byte a partition, 1 where this node holds it. */
export interface NamespaceReplicas {
  readonly namespace: string;
  readonly regime: number;
  readonly replicationFactor: number;
  readonly masks: readonly Uint8Array[];
}

/** `ns:regime,factor,bitmap,bitmap;ns:…`, bitmaps in base64, the first partition in the highest bit. */
export const formatReplicas = (namespaces: readonly NamespaceReplicas[]): string =>
  namespaces
    .map(({ namespace, regime, replicationFactor, masks }) =>
      [`${namespace}:${regime}`, replicationFactor, ...masks.map(bitmapOf)].join(','),
    )
    .join(';');

/** The older forms: `ns:bitmap;…` of what a node is master of, and with the number of replicas before it `ns:factor,bitmap;…`. */
export const formatOldReplicas = (namespaces: readonly NamespaceReplicas[], isAll: boolean): string =>
  namespaces
    .map(({ namespace, replicationFactor, masks }) => {
      const bitmaps = isAll ? [replicationFactor, ...masks.map(bitmapOf)] : [bitmapOf(masks[0])];
      return `${namespace}:${bitmaps.join(',')}`;
    })
    .join(';');

/** @throws wire-malformed */
export const parseReplicas = (text: string): NamespaceReplicas[] =>
  text
    .split(';')
    .filter((part) => part !== '')
    .map((part) => {
      // a namespace may hold no colon, its bitmaps hold none
      const colon = part.indexOf(':');
      const [regime, factor, ...bitmaps] = part.slice(colon + 1).split(',');
      if (colon < 1 || !isNumber(regime) || !isNumber(factor) || bitmaps.length > 8)
        throw malformed(`"${part.slice(0, 60)}" in what a node says of its replicas`);
      return {
        namespace: part.slice(0, colon),
        regime: Number(regime),
        replicationFactor: Number(factor),
        masks: bitmaps.map(maskOf),
      };
    });

const isNumber = (text: string | undefined): boolean => text !== undefined && /^\d{1,9}$/.test(text);

const bitmapOf = (mask: Uint8Array): string => {
  const bitmap = Buffer.alloc(BITMAP_BYTES);
  for (let p = 0; p < PARTITIONS; p++) if (mask[p] === 1) bitmap[p >> 3] |= 0x80 >> (p & 7);
  return bitmap.toString('base64');
};

const maskOf = (base64: string): Uint8Array => {
  const bitmap = Buffer.from(base64, 'base64');
  if (bitmap.length !== BITMAP_BYTES)
    throw malformed(`a bitmap of ${bitmap.length} bytes for the partitions`);
  const mask = new Uint8Array(PARTITIONS);
  for (let p = 0; p < PARTITIONS; p++) mask[p] = (bitmap[p >> 3] >> (7 - (p & 7))) & 1;
  return mask;
};

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export interface Peer {
  readonly node: string;
  /** The name in its certificate; '' without TLS. */
  readonly tlsName: string;
  readonly addresses: readonly HostPort[];
}

export interface Peers {
  readonly generation: number;
  readonly defaultPort: number;
  readonly peers: readonly Peer[];
}

const addressText = ({ host, port }: HostPort): string =>
  `${host.includes(':') ? `[${host}]` : host}:${port}`;

/** `host:port,[v6]:port`: what `service-…` says. */
export const formatAddresses = (addresses: readonly HostPort[]): string =>
  addresses.map(addressText).join(',');

/** `generation,port,[[node,tls name,[host:port,…]],…]`: what `peers-…` says. */
export const formatPeers = ({ generation, defaultPort, peers }: Peers): string =>
  `${generation},${defaultPort},[${peers
    .map((p) => `[${p.node},${p.tlsName},[${formatAddresses(p.addresses)}]]`)
    .join(',')}]`;

const PEER = /^\[([^,[\]]*),([^,[\]]*),\[((?:[^[\]]|\[[^[\]]*\])*)\]\](?:,|$)/;

/** @throws wire-malformed */
export const parsePeers = (text: string): Peers => {
  const m = /^(\d{1,15}),(\d{0,5}),\[(.*)\]$/s.exec(text);
  if (!m) throw malformed(`"${text.slice(0, 60)}" in what a node says of its peers`);
  const defaultPort = Number(m[2] || 3000);
  const peers: Peer[] = [];
  for (let rest = m[3]; rest !== ''; ) {
    const p = PEER.exec(rest);
    if (!p) throw malformed(`"${rest.slice(0, 60)}" in what a node says of its peers`);
    peers.push({ node: p[1], tlsName: p[2], addresses: parseAddresses(p[3], defaultPort) });
    rest = rest.slice(p[0].length);
  }
  return { generation: Number(m[1]), defaultPort, peers };
};

/** @throws wire-malformed */
export const parseAddresses = (text: string, defaultPort: number): HostPort[] =>
  text
    .split(',')
    .filter((part) => part !== '')
    .map((part) => {
      const m = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(part);
      const port = Number(m?.[3] ?? defaultPort);
      if (!m || port > 65_535) throw malformed(`"${part.slice(0, 60)}" is no address`);
      return { host: m[1] ?? m[2], port };
    });
