import type { IndexMeta } from './record-index.ts';

/** Numbers of namespaces and sets in the index. Numbers are never used twice. */
export class Names {
  readonly #namespaces: string[];
  readonly #sets: (readonly [number, string])[];
  readonly #namespaceIds = new Map<string, number>();
  readonly #setIds = new Map<string, number>();

  constructor({ namespaces, sets }: Pick<IndexMeta, 'namespaces' | 'sets'>) {
    this.#namespaces = [...namespaces];
    this.#sets = [...sets];
    namespaces.forEach((name, id) => {
      this.#namespaceIds.set(name, id);
    });
    sets.forEach(([namespace, name], id) => {
      this.#setIds.set(`${namespace}/${name}`, id);
    });
  }

  /** How many there are. */
  get namespaces(): number {
    return this.#namespaces.length;
  }

  namespace(name: string): number {
    let id = this.#namespaceIds.get(name);
    if (id === undefined) {
      id = this.#namespaces.push(name) - 1;
      this.#namespaceIds.set(name, id);
    }
    return id;
  }

  set(namespace: number, name: string): number {
    let id = this.#setIds.get(`${namespace}/${name}`);
    if (id === undefined) {
      id = this.#sets.push([namespace, name]) - 1;
      this.#setIds.set(`${namespace}/${name}`, id);
    }
    return id;
  }

  setName(id: number): string {
    return this.#sets[id][1];
  }

  namespaceName(id: number): string {
    return this.#namespaces[id];
  }

  /** As the index keeps them. */
  stored(): Pick<IndexMeta, 'namespaces' | 'sets'> {
    return { namespaces: this.#namespaces, sets: this.#sets };
  }
}
