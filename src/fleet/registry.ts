import { strict as assert } from 'node:assert'
import type { Instance, InstanceState } from './instance.ts'

export type RegistryEvent =
  | { type: 'added' | 'removed' | 'changed'; instance: Instance }
  | { type: 'moved'; instance: Instance; from: InstanceState; to: InstanceState }

/**
 * All instances, and which of them serve a model. While an instance is replaced, its successor of the same id is
 * here beside it. Whoever wants to know of a change watches.
 */
export class Registry {
  readonly #instances = new Set<Instance>()
  #byModel = new Map<string, Instance[]>()
  readonly #versions = new Map<string, string>()
  readonly #watchers = new Set<(event: RegistryEvent) => void>()

  get all(): readonly Instance[] {
    return [...this.#instances]
  }

  /** The instances that serve a model, in whatever state; empty when the model is unknown. */
  of(model: string): readonly Instance[] {
    return this.#byModel.get(model) ?? []
  }

  has(model: string): boolean {
    return this.#byModel.has(model)
  }

  /**
   * What answers of a model come from: the versions of its instances and the names by which they know it, in whatever
   * state they are. Equal texts say that nothing has changed; a second instance of the same kind changes nothing.
   */
  versionOf(model: string): string {
    let version = this.#versions.get(model)
    if (version === undefined) {
      const parts = this.of(model).map(({ spec }) => `${spec.models.get(model)}\n${spec.version ?? spec.id}`)
      version = [...new Set(parts)].sort().join('\n\n')
      if (this.has(model)) this.#versions.set(model, version)
    }
    return version
  }

  /** Public model names, sorted. */
  get models(): readonly string[] {
    return [...this.#byModel.keys()].sort()
  }

  includes(instance: Instance): boolean {
    return this.#instances.has(instance)
  }

  add(instance: Instance): void {
    assert(!this.#instances.has(instance), `instance ${instance.id} is here already`)
    this.#instances.add(instance)
    this.#index()
    this.#tell({ type: 'added', instance })
  }

  remove(instance: Instance): void {
    if (!this.#instances.delete(instance)) return
    this.#index()
    this.#tell({ type: 'removed', instance })
  }

  /** Replaces what may change while an instance runs: weight, limit, model names. */
  change(instance: Instance, spec: Instance['spec']): void {
    instance.spec = spec
    this.#index()
    this.#tell({ type: 'changed', instance })
  }

  /** The only way into another state; telling an instance what it is already changes nothing. */
  move(instance: Instance, to: InstanceState): void {
    const from = instance.state
    if (from === to) return
    instance.become(to)
    this.#tell({ type: 'moved', instance, from, to })
  }

  /** Calls `watcher` at every change until the returned function is called. */
  watch(watcher: (event: RegistryEvent) => void): () => void {
    this.#watchers.add(watcher)
    return () => this.#watchers.delete(watcher)
  }

  #index(): void {
    const byModel = new Map<string, Instance[]>()
    for (const instance of this.#instances) {
      for (const model of instance.spec.models.keys()) {
        const peers = byModel.get(model)
        if (peers) peers.push(instance)
        else byModel.set(model, [instance])
      }
    }
    this.#byModel = byModel
    this.#versions.clear()
  }

  #tell(event: RegistryEvent): void {
    for (const watcher of this.#watchers) watcher(event)
  }
}
