import type { Clock } from '../core/clock.ts'
import type { EndedPlace, Maintenance } from '../storage/store.ts'

/** How long ended tasks are kept, and how many. */
export type KeepTimes = {
  /** Of every tenant that is not in `own`. */
  keepMs: number
  /** Tenants with another time. */
  own: readonly { tenant: string; keepMs: number }[]
  finishedMax: number
}

/** Whose tasks are kept for a time that is shorter than the longest one. */
type ShorterTime = { keepMs: number; whose: 'theirs' | 'others'; tenants: readonly string[] }

/** Read for each that may be removed: rows of tenants with other times lie between those that are looked for. */
const readFactor = 5
/** Another process may write an end a little after the moment that it names. */
const lateMs = 60_000
/** A walk begins anew after this: for lines of batches that were open when it came past them. */
const rewindMs = 3_600_000
const start: EndedPlace = { finishedAtMs: 0, tie: '' }

/**
 * What there is to do for these times: everything older than the longest of them goes whoever's it is; for each shorter
 * time somebody walks along the ended tasks.
 */
export function planTimes({ keepMs, own }: KeepTimes): { longestMs: number; shorter: ShorterTime[] } {
  const others = own.filter((one) => one.keepMs !== keepMs)
  const tenantsOf = new Map<number, string[]>()
  for (const one of others) {
    const tenants = tenantsOf.get(one.keepMs) ?? []
    tenants.push(one.tenant)
    tenantsOf.set(one.keepMs, tenants)
  }
  const times: ShorterTime[] = [...tenantsOf].map(([keepMs, tenants]) => ({
    ...{ keepMs, tenants },
    whose: 'theirs',
  }))
  times.push({ keepMs, whose: 'others', tenants: others.map(({ tenant }) => tenant) })
  const longestMs = times.reduce((longest, time) => Math.max(longest, time.keepMs), 0)
  return { longestMs, shorter: times.filter((time) => time.keepMs < longestMs) }
}

type Walk = ShorterTime & { from: EndedPlace; beganAtMs: number }
type Pass = { longestMs: number; finishedMax: number; hasOld: boolean; walks: Walk[] }

/**
 * Removes ended tasks that are past their tenants' times, and documents that have expired, in small steps. Where a
 * walk has come to is remembered, so that a pass reads what has grown old since the last one, and not again and again
 * the rows of a tenant that keeps a million of them for a year.
 */
export class Pruner {
  readonly #maintenance: Pick<Maintenance, 'prune' | 'pruneTenants'>
  readonly #clock: Clock
  readonly #times: () => KeepTimes
  #walks: readonly Walk[] = []
  #pass: Pass | null = null

  constructor(parts: {
    maintenance: Pick<Maintenance, 'prune' | 'pruneTenants'>
    clock: Clock
    times: () => KeepTimes
  }) {
    this.#maintenance = parts.maintenance
    this.#clock = parts.clock
    this.#times = parts.times
  }

  /** One step, of at most `limit` tasks and documents. `isDone` when nothing is left for now. */
  async step(limit: number): Promise<{ removed: number; isDone: boolean }> {
    const pass = (this.#pass ??= this.#begin())
    const removed = pass.hasOld ? await this.#pruneOld(pass, limit) : await this.#walkOn(pass, limit)
    const isDone = !pass.hasOld && pass.walks.length === 0
    if (isDone) this.#pass = null
    return { removed, isDone }
  }

  async #pruneOld(pass: Pass, limit: number): Promise<number> {
    const nowMs = this.#clock.wallMs()
    const retention = { finishedBeforeMs: nowMs - pass.longestMs, finishedMax: pass.finishedMax }
    const removed = await this.#maintenance.prune(retention, nowMs, limit)
    pass.hasOld = removed >= limit
    return removed
  }

  async #walkOn(pass: Pass, limit: number): Promise<number> {
    const walk = pass.walks[0]
    if (!walk) return 0
    const { from, tenants, whose } = walk
    const beforeMs = this.#clock.wallMs() - walk.keepMs
    const sizes = { limit, readMax: limit * readFactor }
    const { removed, next } = await this.#maintenance.pruneTenants({
      ...{ from, beforeMs, tenants, whose },
      ...sizes,
    })
    walk.from = next ?? { finishedAtMs: beforeMs - lateMs, tie: '' }
    if (next === null) pass.walks.shift()
    return removed
  }

  #begin(): Pass {
    const times = this.#times()
    const { longestMs, shorter } = planTimes(times)
    this.#walks = shorter.map((time) => this.#goOn(time))
    return { longestMs, finishedMax: times.finishedMax, hasOld: true, walks: [...this.#walks] }
  }

  /** From where the last pass came to; from the start for other tenants, who may have left tasks behind that place. */
  #goOn(time: ShorterTime): Walk {
    const nowMs = this.#clock.now()
    const before = this.#walks.find((walk) => walk.keepMs === time.keepMs && isSame(walk, time))
    return before && nowMs - before.beganAtMs < rewindMs ? before : { ...time, from: start, beganAtMs: nowMs }
  }
}

const isSame = (a: ShorterTime, b: ShorterTime): boolean =>
  a.whose === b.whose &&
  a.tenants.length === b.tenants.length &&
  a.tenants.every((tenant, index) => tenant === b.tenants[index])
