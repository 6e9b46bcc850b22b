import { strict as assert } from 'node:assert'
import { after, before, describe, it } from 'node:test'
import { systemClock, type Clock } from '../../../../src/core/clock.ts'
import type { Limiter } from '../../../../src/gateway/limits/limiter.ts'
import { callMs } from '../../../../src/gateway/limits/shared/link.ts'
import { RedisAuthority } from '../../../../src/gateway/limits/shared/redis-authority.ts'
import { redisSkip, RedisServer } from '../../../helpers/redis.ts'
import { eventually } from '../../../helpers/server.ts'
import {
  aCaller,
  aheadOf,
  aRequest,
  countPasses,
  drawSeed,
  findExcess,
  isPass,
  limitsOf,
  makeLimiter,
  makeRandom,
  tenantWith,
  tryEnter,
  type Taken,
} from '../harness.ts'

/** A clock that runs a bit too fast or too slow, as all do. */
const driftingBy = (share: number): Clock => ({ ...systemClock, now: () => systemClock.now() * (1 + share) })

/** Calls `step` as fast as the loop turns, for so long. Returns the longest turn: others use this machine too. */
async function forMs(ms: number, step: () => void): Promise<number> {
  const endMs = performance.now() + ms
  let lastMs = performance.now()
  let longestMs = 0
  while (lastMs < endMs) {
    step()
    await new Promise((resolve) => setImmediate(resolve))
    const nowMs = performance.now()
    longestMs = Math.max(longestMs, nowMs - lastMs)
    lastMs = nowMs
  }
  return longestMs
}

/** Where the matter is not what happens without Redis, a machine that is busy with others must not make it one. */
const patient = { budgetMs: 10_000 }

describe('three servers on a real Redis', { skip: redisSkip() }, () => {
  let redis: RedisServer
  let prefix = 0
  const running: Limiter[] = []
  before(async () => {
    redis = await RedisServer.create()
  })
  after(async () => {
    await redis.remove()
  })
  const startThree = async (
    limits: Parameters<typeof makeLimiter>[1] = {},
    parts: { budgetMs?: number } = {},
  ) => {
    prefix += 1
    const clocks = [driftingBy(0), aheadOf(driftingBy(0.0005), 3_600_000), aheadOf(driftingBy(-0.0005), -777)]
    const limiters = clocks.map((clock) => {
      const authority = new RedisAuthority({ url: redis.url, password: undefined, prefix: `t${prefix}` })
      return makeLimiter(clock, limits, { authority, ...parts })
    })
    for (const limiter of limiters) await limiter.start()
    await eventually('all know of all', () => limiters.every(({ replicas }) => replicas === 3))
    running.push(...limiters)
    return limiters
  }
  const stopAll = async () => {
    for (const limiter of running.splice(0)) await limiter.stop()
  }

  it('never let more than burst + rate * time through, in any interval', async () => {
    const random = makeRandom(drawSeed())
    const models = { m: limitsOf({ requestsPerMinute: 60_000 }) }
    const limiters = await startThree({ burstMs: 1_000, models }, patient)
    const settings = tenantWith({
      requestsPerMinute: 24_000,
      tokensPerMinute: 1_800_000,
      concurrentMax: 400,
    })
    const events = { a: [] as Taken[], b: [] as Taken[], tokens: [] as Taken[], model: [] as Taken[] }
    let asked = 0
    let open = 0
    let openMax = 0
    let intensity = 3
    const startedAtMs = performance.now()
    const pending = new Set<Promise<void>>()
    await forMs(2_500, () => {
      // In waves, so that buckets are full and empty in turn.
      if (random() < 0.01) intensity = random() < 0.4 ? 0.02 : random() * 6
      for (let n = random() < intensity ? Math.ceil(random() * intensity) : 0; n > 0; n -= 1) {
        const tenant = random() < 0.6 ? 'a' : 'b'
        const tokens = Math.floor(random() * 150)
        const limiter = limiters[Math.floor(random() * 3)] as Limiter
        asked += 1
        const done = tryEnter(limiter, aRequest({ settings, tokens, caller: aCaller({ tenant }) })).then(
          (outcome) => {
            if (!isPass(outcome)) return
            const atMs = performance.now()
            events[tenant].push({ atMs, units: 1 })
            events.model.push({ atMs, units: 1 })
            if (tenant === 'a') events.tokens.push({ atMs, units: tokens })
            if (tenant === 'a') openMax = Math.max(openMax, (open += 1))
            const end = () => {
              if (tenant === 'a') open -= 1
              outcome.settle(null)
            }
            if (random() < 0.5) end()
            else setTimeout(end, random() * 30)
          },
        )
        pending.add(done)
        void done.finally(() => pending.delete(done))
      }
    })
    await Promise.all(pending)
    const passedMs = performance.now() - startedAtMs
    for (const { problem } of limiters) assert.equal(problem, null)
    const rules = { a: 0.4, b: 0.4, tokens: 30, model: 1 }
    const used: string[] = []
    for (const [name, rate] of Object.entries(rules) as [keyof typeof rules, number][]) {
      // By the clocks of this test, which drift by half a thousandth, and a millisecond late when it looks.
      const excess = findExcess(events[name], { rate: rate * 1.001, capacity: rate * 1_002 })
      assert.ok(excess < 1e-3, `${name} exceeded by ${excess}`)
      const sum = events[name].reduce((total, { units }) => total + units, 0)
      used.push(`${name} ${Math.round((100 * sum) / (rate * (1_000 + passedMs)))} %`)
    }
    assert.ok(openMax <= 400)
    console.log(`# ${asked} asked; used of what was allowed: ${used.join(', ')}`)
    await stopAll()
  })

  it('count requests at once exactly', async () => {
    const random = makeRandom(drawSeed())
    const limiters = await startThree({}, patient)
    const request = aRequest({ settings: tenantWith({ concurrentMax: 12 }) })
    let open = 0
    let openMax = 0
    let passes = 0
    const pending = new Set<Promise<void>>()
    await forMs(700, () => {
      if (random() < 0.5) return
      const limiter = limiters[Math.floor(random() * 3)] as Limiter
      const done = tryEnter(limiter, request).then((outcome) => {
        if (!isPass(outcome)) return
        passes += 1
        openMax = Math.max(openMax, (open += 1))
        setTimeout(() => {
          open -= 1
          if (random() < 0.5) outcome.cancel()
          else outcome.settle(null)
        }, random() * 20)
      })
      pending.add(done)
      void done.finally(() => pending.delete(done))
    })
    await Promise.all(pending)
    assert.ok(openMax <= 12, `${openMax} at once`)
    assert.ok(passes > 100, `${passes} passed`)
    await eventually('all have ended', () => open === 0)
    await eventually('all slots can be had again', async () => {
      const taken = await Promise.all(
        Array.from({ length: 12 }, () => tryEnter(limiters[0] as Limiter, request)),
      )
      for (const outcome of taken) if (isPass(outcome)) outcome.settle(null)
      return taken.every(isPass)
    })
    await stopAll()
  })

  it('go on when it is killed, say so, and share again when it is back and empty', async () => {
    const limiters = await startThree()
    const settings = tenantWith({ requestsPerMinute: 300, concurrentMax: 1_000 })
    const request = aRequest({ settings })
    let passes = 0
    let failures = 0
    let slowestMs = 0
    let allowedMs = 0
    const load = async (ms: number) => {
      const pending: Promise<void>[] = []
      const longestMs = await forMs(ms, () => {
        if (pending.length > 20_000) return
        for (const limiter of limiters) {
          const startedAtMs = performance.now()
          const done = tryEnter(limiter, request).then(
            (outcome) => {
              slowestMs = Math.max(slowestMs, performance.now() - startedAtMs)
              if (!isPass(outcome)) return
              passes += 1
              outcome.settle(null)
            },
            () => (failures += 1),
          )
          pending.push(done.then(() => {}))
        }
      })
      await Promise.all(pending)
      allowedMs = Math.max(allowedMs, 2 * callMs + 3 * longestMs + 20)
    }
    const startedAtMs = performance.now()
    await load(200)
    const killed = redis.kill()
    await load(600)
    await killed
    for (const { problem } of limiters) {
      assert.match(problem ?? '', /^Redis at 127\.0\.0\.1:\d+ is away \(.+\); this server goes on with a share of 1\/3 of each limit\.$/)
    }
    await redis.start()
    await load(600)
    await eventually('all share again', () => limiters.every(({ problem }) => problem === null))
    assert.equal(failures, 0)
    assert.ok(slowestMs < allowedMs, `${slowestMs} ms, and ${allowedMs} were allowed`)
    // Before it was killed, by the shares, and by a Redis that knows nothing: a burst each at the very most.
    const allowed = 3 * 300 + (300 / 60_000) * (performance.now() - startedAtMs)
    assert.ok(passes >= 250 && passes <= allowed, `${passes} passed`)
    await stopAll()
  }) // prettier-ignore

  it('owe afterwards what was used while it was away', async () => {
    const limiters = await startThree()
    const settings = tenantWith({ requestsPerMinute: 90 })
    const request = aRequest({ settings })
    redis.pause()
    let meanwhile = 0
    for (const limiter of limiters) meanwhile += await countPasses(limiter, request, 30)
    assert.ok(meanwhile >= 88 && meanwhile <= 92, `${meanwhile} by three thirds`)
    redis.resume()
    await eventually('all share again', () => limiters.every(({ problem }) => problem === null))
    await eventually(
      'the debts are told',
      async () => !isPass(await tryEnter(limiters[0] as Limiter, request)),
    )
    for (const limiter of limiters) assert.ok((await countPasses(limiter, request, 30)) <= 3)
    await stopAll()
  })

  it('delay no request by more than the budget when it neither answers nor goes', async () => {
    const limiters = await startThree()
    const settings = tenantWith({ requestsPerMinute: 60_000 })
    redis.pause()
    try {
      let slowestMs = 0
      const pending: Promise<unknown>[] = []
      let at = 0
      const longestMs = await forMs(400, () => {
        // New tenants, of whom nobody has a lease.
        const request = aRequest({ settings, caller: aCaller({ tenant: `half-open-${(at += 1)}` }) })
        const startedAtMs = performance.now()
        pending.push(
          tryEnter(limiters[at % 3] as Limiter, request).then((outcome) => {
            assert.ok(isPass(outcome))
            slowestMs = Math.max(slowestMs, performance.now() - startedAtMs)
          }),
        )
      })
      await Promise.all(pending)
      assert.ok(pending.length > 100)
      console.log(
        `# ${pending.length} requests on a Redis that stands still: the slowest took ${slowestMs.toFixed(1)} ms`,
      )
      assert.ok(slowestMs < 2 * callMs + 3 * longestMs + 20, `the slowest took ${slowestMs} ms`)
      for (const limiter of limiters) assert.match(limiter.problem ?? '', /no answer within 50 ms/)
    } finally {
      redis.resume()
    }
    await eventually('all share again', () => limiters.every(({ problem }) => problem === null))
    await stopAll()
  })
})
