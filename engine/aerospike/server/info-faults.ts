import { PartitionSet } from '../../partition.ts';
import { infoError } from '../info.ts';
import { ResultCode } from '../result-code.ts';
import type { Faults } from './faults.ts';
import type { InfoHandler, InfoTable } from './info-commands.ts';

type Knob = (faults: Faults, value: string) => void;

const number =
  (set: (faults: Faults, n: number) => void): Knob =>
  (faults, value) =>
    set(faults, Number(value));

const KNOBS: Readonly<Record<string, Knob>> = {
  unavailable: (faults, value) => {
    faults.unavailable.clear();
    for (const { start, end } of PartitionSet.parse(value || 'none').ranges)
      for (let p = start; p < end; p++) faults.unavailable.add(p);
  },
  'failed-records': number((f, n) => {
    f.failedRecords = n;
  }),
  migrating: number((f, n) => {
    f.migrating = n;
  }),
  burst: number((f, n) => {
    f.burst = n;
  }),
  'burst-code': number((f, n) => {
    f.burstCode = n;
  }),
  'clock-step-ms': number((f, n) => {
    f.clockStepMs = n;
  }),
  'drop-after-bytes': number((f, n) => {
    f.dropAfterBytes = n;
  }),
  'trickle-bytes': number((f, n) => {
    f.trickleBytes = n;
  }),
  'trickle-ms': number((f, n) => {
    f.trickleMs = n;
  }),
  'chunk-bytes': number((f, n) => {
    f.chunkBytes = n;
  }),
  generation: number((f, n) => {
    f.generation = n;
  }),
  resurrect: number((f, n) => {
    f.resurrects = n !== 0;
  }),
};

const setFault: InfoHandler = ({ database }, { parameters }) => {
  const { faults } = database;
  for (const [key, value] of parameters) {
    const knob = KNOBS[key];
    if (!faults || !knob || (key !== 'unavailable' && !/^-?\d{1,15}$/.test(value)))
      return infoError(ResultCode.parameter, `bad fault ${key}=${value}`);
    knob(faults, value);
  }
  return 'ok';
};

const movePartitions: InfoHandler = ({ database, cluster }, { parameters }) => {
  const node = cluster.nodes.findIndex(({ id }) => id === parameters.get('node'));
  const partitions = parameters.get('partitions') ?? '';
  if (node < 0 || !PartitionSet.isText(partitions))
    return infoError(ResultCode.parameter, 'node=ID;partitions=0-99');
  cluster.move(PartitionSet.parse(partitions), node, database.nowMs());
  return 'ok';
};

/**
 * Of servers that are there to be tested against: `pitr-fault:name=value;…`, `pitr-move:node=ID;partitions=RANGES`, and
 * `pitr-restart`, which answers how many records came back.
 */
export const FAULT_COMMANDS: InfoTable = {
  'pitr-fault': setFault,
  'pitr-move': movePartitions,
  'pitr-restart': async ({ restart }) => `${await restart()}`,
};
