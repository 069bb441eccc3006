/** Calls: list and map operations on a value (opcode 127), and the keys and values of a map (101, 102). */
import { type Particle, ParticleType } from '../../particle.ts';
import { list } from '../cdt/answer.ts';
import { type Container, keyAt, openContainer, valueAt } from '../cdt/container.ts';
import { Kind } from '../cdt/element.ts';
import { cdtModify, cdtRead } from '../cdt/operations.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { elementOf, PARTICLE_TYPES, particleOf, valueOfParticle } from './element-of.ts';
import { type Node, type Run, ValueType } from './node.ts';

/** An operation's bytes, in which some arguments are computed. */
export type OperationPart = Uint8Array | Node;

const bytesOf = (parts: readonly OperationPart[], run: Run): Uint8Array | undefined => {
  const bytes: Uint8Array[] = [];
  for (const part of parts) {
    if (part instanceof Uint8Array) {
      bytes.push(part);
      continue;
    }
    const element = elementOf(part.type, part.evaluate(run));
    if (element === undefined) return undefined;
    bytes.push(element);
  }
  return Buffer.concat(bytes);
};

/** `modifies`: the value is the list or map afterwards, not the operation's answer. The bin itself never changes. */
export const call = (
  type: ValueType,
  modifies: boolean,
  parts: readonly OperationPart[],
  target: Node,
): Node => {
  if (target.type !== ValueType.list && target.type !== ValueType.map && target.type !== ValueType.nil)
    throw new Refusal(ResultCode.parameter, 'a list or map operation on something else');
  if (!PARTICLE_TYPES.has(type)) throw new Refusal(ResultCode.parameter, `a call of type ${type}`);
  const computed = parts.some((part) => !(part instanceof Uint8Array));
  const constant = computed ? undefined : Buffer.concat(parts as readonly Uint8Array[]);
  const outcome = (run: Run): Particle | null | undefined => {
    const operation = constant ?? bytesOf(parts, run);
    if (operation === undefined) return undefined;
    const value = target.evaluate(run);
    if (value === undefined) return undefined;
    const particle = result(modifies, particleOf(target.type, value), operation);
    const expected = PARTICLE_TYPES.get(type);
    return (particle?.type ?? ParticleType.null) === expected ? particle : undefined;
  };
  return {
    // Whatever the call makes of a literal nil, its type is nil to what is around it.
    type: target.type === ValueType.nil ? ValueType.nil : type,
    usesBins: target.usesBins || parts.some((part) => !(part instanceof Uint8Array) && part.usesBins),
    evaluate: (run) => {
      const particle = outcome(run);
      return particle ? valueOfParticle(type, particle) : particle;
    },
    particle: (run) => outcome(run) ?? undefined,
  };
};

/** `null`: the operation has no result. */
const result = (
  modifies: boolean,
  particle: Particle | undefined,
  operation: Uint8Array,
): Particle | null | undefined => {
  if (modifies) {
    const outcome = cdtModify(particle, operation);
    return outcome instanceof Refusal ? undefined : (outcome.particle ?? null);
  }
  if (particle === undefined) return undefined;
  const answer = cdtRead(particle, operation);
  return answer instanceof Refusal ? undefined : (answer ?? null);
};

const elements = (map: Node, at: typeof keyAt): Node => ({
  type: ValueType.list,
  usesBins: map.usesBins,
  evaluate: (run) => {
    const bytes = map.evaluate(run);
    const container =
      bytes instanceof Uint8Array && isMap(map) ? openContainer(bytes, 0, bytes.length) : undefined;
    if (container?.kind !== Kind.map) return undefined;
    return listOf(container, at);
  },
});

const isMap = (node: Node): boolean => node.type === ValueType.map;

const listOf = (c: Container, at: typeof keyAt): Uint8Array =>
  list(
    c.count,
    Array.from({ length: c.count }, (_, i) => at(c, i)),
  ).bytes;

/** Opcode 101. */
export const mapKeys = (map: Node): Node => elements(map, keyAt);

/** Opcode 102. */
export const mapValues = (map: Node): Node => elements(map, valueAt);
