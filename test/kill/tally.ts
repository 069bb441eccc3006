/** What the kill loops came to. */
export class Tally {
  readonly killed = { writer: 0, agent: 0, compact: 0, snapshot: 0, restore: 0 };
  /** Bytes of half-written frames that were cut off, versions replayed into the store, logs of dead writers that an agent adopted. */
  tornBytes = 0;
  replayed = 0;
  adopted = 0;
  merges = 0;
  snapshots = 0;
  /** Snapshots that a process found begun, and the ranges that were noted as done. */
  snapshotsResumed = 0;
  rangesTakenOver = 0;
  restoresResumed = 0;
  /** States that were compared with the model after a restore. */
  compared = 0;
  steps = 0;
  positions = 0;
  readonly #startedMs = performance.now();

  get kills(): number {
    return Object.values(this.killed).reduce((n, k) => n + k, 0);
  }

  summary(): string {
    const roles = Object.entries(this.killed).map(([role, n]) => `${role} ${n}`);
    return [
      `${this.kills} kills in ${((performance.now() - this.#startedMs) / 1000).toFixed(1)} s: ${roles.join(', ')}`,
      `recovered: ${this.tornBytes} torn bytes, ${this.replayed} versions replayed, ${this.adopted} logs adopted, ` +
        `${this.snapshotsResumed} snapshots taken up (${this.rangesTakenOver} ranges done), ${this.restoresResumed} restores made again`,
      `${this.steps} steps, ${this.positions} positions, ${this.merges} merges, ${this.snapshots} snapshots, ` +
        `${this.compared} restored states compared`,
    ].join('\n');
  }
}
