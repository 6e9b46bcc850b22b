/** What is looked at in an instance to know how much it can take. `Instance` with its slots satisfies it. */
type PoolMember = {
  models: Iterable<string>
  /** Calls that it works on at once. */
  slots: number
  inFlight: number
  available: boolean
}

/** Models that share instances, and what these can take together. */
export type Pool = {
  /** Sorted; the first of them is the pool's name. */
  models: readonly string[]
  /** Slots of the instances that are available. */
  capacity: number
  /** Calls under way on all of them, tasks and live requests alike. */
  inFlight: number
}

/**
 * Instances grouped so that models that share one are in the same pool: the slots that one model's tasks take are not
 * there for the other's. Most fleets have one pool for each model.
 */
export function groupPools(members: readonly PoolMember[]): Map<string, Pool> {
  const parents = new Map<string, string>()
  const rootOf = (model: string): string => {
    const parent = parents.get(model) as string
    if (parent === model) return model
    const root = rootOf(parent)
    parents.set(model, root)
    return root
  }
  for (const { models } of members) {
    let first: string | null = null
    for (const model of models) {
      if (!parents.has(model)) parents.set(model, model)
      if (first === null) first = model
      else parents.set(rootOf(model), rootOf(first))
    }
  }
  const groups = new Map<string, { models: string[]; capacity: number; inFlight: number }>()
  for (const model of [...parents.keys()].sort()) {
    const root = rootOf(model)
    const group = groups.get(root) ?? { models: [], capacity: 0, inFlight: 0 }
    group.models.push(model)
    groups.set(root, group)
  }
  for (const member of members) {
    const [first] = member.models
    const group = first === undefined ? undefined : groups.get(rootOf(first))
    if (!group) continue
    group.inFlight += member.inFlight
    if (member.available) group.capacity += member.slots
  }
  const byModel = new Map<string, Pool>()
  for (const pool of groups.values()) for (const model of pool.models) byModel.set(model, pool)
  return byModel
}
