import { observeLatency } from '../../src/fleet/latency.ts'
import { Allowance } from '../../src/queue/allowance.ts'
import { LiveBook } from '../../src/queue/live-signals.ts'
import { createPeakEwma } from '../../src/router/policies/peak-ewma.ts'
import { ManualClock } from '../../test/helpers/clock.ts'
import { engineSpec, ModelInstance, type Outcome } from './model-instance.ts'
import type { TracedRequest } from './trace.ts'

export type ValleyOptions = {
  live: readonly TracedRequest[]
  /** The next task of an endless backlog. */
  nextTask: () => Pick<TracedRequest, 'inputTokens' | 'outputTokens'>
  instances: number
  /** `off`: no tasks. `fill`: as many as the reserve leaves, whatever live requests say. */
  tasks: 'off' | 'fill' | 'valley'
  reserve: number
  concurrencyMax: number
  random: () => number
}

export type ValleyResult = {
  /** Of live requests, sorted. */
  ttftMs: Float64Array
  /** The share of time in which an instance has anything to do. */
  busyShare: number
  /** The share of the slots in use. */
  slotsShare: number
  tasksPerSecond: number
  taskTokensPerSecond: number
}

/** The dispatcher looks at least so often. */
const beatMs = 333

/**
 * Live requests and tasks on simulated instances. What decides is production's own: `peak_ewma` chooses the instance
 * of both, `LiveBook` hears of live requests, `Allowance` says how many tasks may run; a task is begun where the
 * dispatcher would claim one, at its beat and whenever a task ends.
 */
export function simulateValley(options: ValleyOptions): ValleyResult {
  const clock = new ManualClock()
  const live = new LiveBook(clock)
  const ttftMs: number[] = []
  const tasks = new Set<TracedRequest>()
  let tasksDone = 0
  let taskTokens = 0
  const onFirstToken = ({ request, ttftMs: ms }: Outcome) => {
    if (tasks.has(request)) return
    ttftMs.push(ms)
    live.firstByte('m', ms)
  }
  const onEnd = (request: TracedRequest) => {
    if (!tasks.delete(request)) return live.ended('m', true)
    tasksDone += 1
    taskTokens += request.inputTokens + request.outputTokens
  }
  const instances = Array.from(
    { length: options.instances },
    (_, i) =>
      new ModelInstance({
        ...{ id: `instance-${i}`, weight: 1, speed: 1, spec: engineSpec, observe: observeLatency },
        ...{ onFirstToken, onEnd },
      }),
  )
  const models = new Map([['m', 'm']])
  const allowance = new Allowance({
    registry: {
      get all() {
        return instances.map(({ inFlight }) => {
          return { spec: { models }, slots: engineSpec.sequencesMax, inFlight, state: 'ready', ejectedUntilMs: 0, busyUntilMs: 0 } as const // prettier-ignore
        })
      },
    },
    live,
    clock,
    reserve: () => options.reserve,
  })
  const policy = createPeakEwma()
  const call = { sessionKey: null, prefixBlocks: () => [] }
  const send = (request: TracedRequest) =>
    policy.pick(instances, call, { nowMs: clock.now(), random: options.random }).accept(request, clock.now())

  const begin = () => {
    const running = new Map([['m', tasks.size]])
    allowance.look(running)
    const room =
      options.tasks === 'valley'
        ? allowance.free('m', running)
        : Math.floor(instances.length * engineSpec.sequencesMax * (1 - options.reserve)) - live.look(['m']).inFlight - tasks.size // prettier-ignore
    const free = Math.min(room, options.concurrencyMax - tasks.size)
    for (let i = 0; i < free; i += 1) {
      const request = { ...options.nextTask(), atMs: clock.now(), blocks: [], sessionKey: '', streamed: true }
      tasks.add(request)
      send(request)
    }
  }

  let next = 0
  let beatAtMs = 0
  const endMs = options.live.at(-1)!.atMs
  while (next < options.live.length) {
    const arrivalMs = options.live[next]!.atMs
    const nowMs = Math.min(arrivalMs, beatAtMs, ...instances.map((instance) => instance.nextEventMs()))
    clock.advance(Math.max(0, nowMs - clock.now()))
    const running = tasks.size
    for (const instance of instances) instance.advance(nowMs)
    while (next < options.live.length && options.live[next]!.atMs <= nowMs) {
      live.began('m')
      send(options.live[next]!)
      next += 1
    }
    const isBeat = nowMs >= beatAtMs
    if (isBeat) beatAtMs = nowMs + beatMs
    if (options.tasks !== 'off' && (isBeat || tasks.size < running)) begin()
  }
  const share = (read: (instance: ModelInstance) => number) =>
    instances.reduce((sum, instance) => sum + read(instance), 0) / instances.length / endMs
  const result = {
    busyShare: share(({ busyMs }) => busyMs),
    slotsShare: share(({ sequencesBusyMs }) => sequencesBusyMs) / engineSpec.sequencesMax,
    tasksPerSecond: (tasksDone / endMs) * 1000,
    taskTokensPerSecond: (taskTokens / endMs) * 1000,
  }
  // The last live requests are waited for.
  for (const instance of instances) instance.advance(Number.MAX_SAFE_INTEGER)
  return { ...result, ttftMs: Float64Array.from(ttftMs).sort() }
}
