/** Kinds of requests as providers charge for them: writes and listings cost about ten times a read, deletions nothing. */
export const KINDS = ['put', 'upload', 'get', 'head', 'list', 'delete'] as const;
export type Kind = (typeof KINDS)[number];

/** What went through a server. `upload`: beginnings and ends of uploads in parts; the parts are `put`. */
export interface Traffic {
  readonly requests: Record<Kind, number>;
  /** How often it was asked while no request was on its way: what waits for each other, when nothing overlaps. */
  waves: number;
  sentMB: number;
  receivedMB: number;
}

export const emptyTraffic = (): Traffic => ({
  requests: { put: 0, upload: 0, get: 0, head: 0, list: 0, delete: 0 },
  waves: 0,
  sentMB: 0,
  receivedMB: 0,
});

/** `sent` and `received` are the client's: bodies in bytes. */
export const addTo = (traffic: Traffic, kind: Kind, sent: number, received: number): void => {
  traffic.requests[kind]++;
  traffic.sentMB += sent / 1e6;
  traffic.receivedMB += received / 1e6;
};

export const requestsOf = ({ requests }: Traffic): number => KINDS.reduce((n, kind) => n + requests[kind], 0);
