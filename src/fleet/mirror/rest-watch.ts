import type { Breaker } from '../breaker.ts'
import type { Instance } from '../instance.ts'

/** What rests, and for how long from now on: monotonic clocks differ between processes. */
export type RestNews =
  | { kind: 'instance'; number: number; ejectedForMs: number; ejections: number; busyForMs: number }
  /** `openForMs` is 0 for a breaker that has closed. */
  | { kind: 'instance-breaker'; number: number; openForMs: number }
  | { kind: 'model-breaker'; model: string; openForMs: number }

/** The breakers of models, where there are any. */
export type ModelBreakers = {
  readonly models: ReadonlyMap<string, Breaker>
  breakerOf(model: string): Breaker
}

type SeenInstance = { ejectedUntilMs: number; busyUntilMs: number }
type SeenBreaker = { opened: number; closed: number }

/**
 * Finds what this process itself has taken out of the traffic or put back since it last looked, and takes over what
 * others have. Looking costs a comparison for each instance, and the way of a request nothing.
 */
export class RestWatch {
  readonly #models: ModelBreakers
  readonly #instances = new WeakMap<Instance, SeenInstance>()
  readonly #breakers = new WeakMap<Breaker, SeenBreaker>()

  constructor(models: ModelBreakers) {
    this.#models = models
  }

  /** What has changed here since the last look. */
  readNews(instances: Iterable<readonly [number, Instance]>, nowMs: number): RestNews[] {
    const news: RestNews[] = []
    for (const [number, instance] of instances) {
      const { ejectedUntilMs, busyUntilMs } = instance
      const seen = this.#instances.get(instance)
      if (ejectedUntilMs !== (seen?.ejectedUntilMs ?? 0) || busyUntilMs !== (seen?.busyUntilMs ?? 0)) {
        this.#instances.set(instance, { ejectedUntilMs, busyUntilMs })
        const rest = describeRest(number, instance, nowMs)
        if (rest) news.push(rest)
      }
      const openForMs = this.#readBreaker(instance.breaker, nowMs)
      if (openForMs !== null) news.push({ kind: 'instance-breaker', number, openForMs })
    }
    for (const [model, breaker] of this.#models.models) {
      const openForMs = this.#readBreaker(breaker, nowMs)
      if (openForMs !== null) news.push({ kind: 'model-breaker', model, openForMs })
    }
    return news
  }

  /** Everything that rests now: for a process that has just begun. */
  readAll(instances: Iterable<readonly [number, Instance]>, nowMs: number): RestNews[] {
    const news: RestNews[] = []
    for (const [number, instance] of instances) {
      const rest = describeRest(number, instance, nowMs)
      if (rest) news.push(rest)
      const openForMs = instance.breaker.waitMs(nowMs)
      if (openForMs > 0) news.push({ kind: 'instance-breaker', number, openForMs })
    }
    for (const [model, breaker] of this.#models.models) {
      const openForMs = breaker.waitMs(nowMs)
      if (openForMs > 0) news.push({ kind: 'model-breaker', model, openForMs })
    }
    return news
  }

  /** Takes over what another process says. */
  apply(news: RestNews, find: (number: number) => Instance | undefined, nowMs: number): void {
    if (news.kind === 'model-breaker') {
      this.#models.breakerOf(news.model).adopt(news.openForMs, nowMs)
      return
    }
    const instance = find(news.number)
    if (!instance) return
    if (news.kind === 'instance-breaker') {
      instance.breaker.adopt(news.openForMs, nowMs)
      return
    }
    const { ejectedForMs, ejections, busyForMs } = news
    // What others said is not said again; what this process has not said yet still is.
    const seen = this.#instances.get(instance) ?? { ejectedUntilMs: 0, busyUntilMs: 0 }
    if (ejectedForMs > 0 && nowMs + ejectedForMs > instance.ejectedUntilMs) {
      instance.ejectedUntilMs = seen.ejectedUntilMs = nowMs + ejectedForMs
      instance.ejections = Math.max(instance.ejections, ejections)
    }
    if (busyForMs > 0 && nowMs + busyForMs > instance.busyUntilMs) {
      instance.busyUntilMs = seen.busyUntilMs = nowMs + busyForMs
    }
    this.#instances.set(instance, seen)
  }

  /** For how long a breaker has opened since the last look, 0 when it has closed, null when neither. */
  #readBreaker(breaker: Breaker, nowMs: number): number | null {
    const { open, closed } = breaker.entries
    const seen = this.#breakers.get(breaker)
    if (open === (seen?.opened ?? 0) && closed === (seen?.closed ?? 0)) return null
    this.#breakers.set(breaker, { opened: open, closed })
    if (breaker.state === 'closed') return 0
    return breaker.waitMs(nowMs) || null
  }
}

function describeRest(number: number, instance: Instance, nowMs: number): RestNews | null {
  const ejectedForMs = Math.max(0, instance.ejectedUntilMs - nowMs)
  const busyForMs = Math.max(0, instance.busyUntilMs - nowMs)
  if (ejectedForMs === 0 && busyForMs === 0) return null
  return { kind: 'instance', number, ejectedForMs, ejections: instance.ejections, busyForMs }
}
