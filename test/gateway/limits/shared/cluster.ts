import type { Config } from '../../../../src/config/schema.ts'
import type { Limiter } from '../../../../src/gateway/limits/limiter.ts'
import type { Answer, Ask, Authority } from '../../../../src/gateway/limits/shared/authority.ts'
import { MemoryAuthority } from '../../../../src/gateway/limits/shared/memory-authority.ts'
import { ManualClock } from '../../../helpers/clock.ts'
import { aheadOf, makeLimiter } from '../harness.ts'

/** Everything that is ready to run has run. */
export const settled = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))

type Held = { deliver: () => void }

/** The way of one server to an authority, which a test may slow down, break and mend. */
export class TestWay implements Authority {
  readonly title = 'the authority'
  mode: 'up' | 'slow' | 'refused' | 'silent' = 'up'
  calls = 0
  /** Asks and answers that are on their way while it is slow, in order. */
  readonly held: Held[] = []
  readonly asks: Ask[] = []
  readonly #model: MemoryAuthority

  constructor(model: MemoryAuthority) {
    this.#model = model
  }

  open(signal: AbortSignal): Promise<void> {
    if (this.mode === 'refused') return Promise.reject(new Error('connection refused'))
    if (this.mode !== 'silent') return Promise.resolve()
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    })
  }

  close(): void {}

  decide(ask: Ask): Promise<Answer> {
    this.calls += 1
    this.asks.push(structuredClone(ask))
    if (this.mode === 'refused') return Promise.reject(new Error('connection refused'))
    if (this.mode === 'silent') return new Promise(() => {})
    if (this.mode === 'up') return this.#model.decide(ask)
    return new Promise((resolve, reject) => {
      const decide = () => {
        try {
          const answer = this.#model.decideNow(ask)
          this.held.push({ deliver: () => resolve(answer) })
        } catch (error) {
          reject(error)
        }
      }
      this.held.push({ deliver: decide })
    })
  }
}

export type TestServer = { limiter: Limiter; way: TestWay }

/** Several servers on one authority, each with a clock of its own; all clocks stand until the test moves them. */
export async function makeCluster(
  count: number,
  limits: Partial<Config['limits']> = {},
): Promise<{ clock: ManualClock; model: MemoryAuthority; servers: TestServer[]; stop: () => Promise<void> }> {
  const clock = new ManualClock()
  const model = new MemoryAuthority(clock)
  const servers: TestServer[] = []
  for (let i = 0; i < count; i += 1) {
    const way = new TestWay(model)
    const limiter = makeLimiter(aheadOf(clock, i * 7_777_777), limits, { authority: way })
    await limiter.start()
    servers.push({ limiter, way })
  }
  // One heartbeat, and all know of all.
  clock.advance(1_250)
  await settled()
  return {
    ...{ clock, model, servers },
    stop: async () => {
      for (const { limiter } of servers) await limiter.stop()
    },
  }
}
