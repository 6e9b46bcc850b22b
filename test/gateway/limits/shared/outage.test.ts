import { strict as assert } from 'node:assert'
import { Writable } from 'node:stream'
import { describe, it } from 'node:test'
import pino from 'pino'
import type { Pass } from '../../../../src/gateway/limits/pass.ts'
import { MemoryAuthority } from '../../../../src/gateway/limits/shared/memory-authority.ts'
import { ManualClock } from '../../../helpers/clock.ts'
import { aRequest, countPasses, isPass, makeLimiter, tenantWith, tryEnter } from '../harness.ts'
import { makeCluster, settled, TestWay, type TestServer } from './cluster.ts'

async function pass(clock: ManualClock, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 250) {
    clock.advance(Math.min(250, left))
    await settled()
  }
}

describe('while the authority is away', () => {
  it('a request waits for it no longer than its budget, and those after it not at all', async () => {
    const { clock, servers, stop } = await makeCluster(3)
    const { limiter, way } = servers[0] as TestServer
    const request = aRequest({ settings: tenantWith({ requestsPerMinute: 30, concurrentMax: 6 }) })
    way.mode = 'silent'
    const outcomes: (Pass | Error)[] = []
    const startedAtMs = clock.now()
    const enter = () => void tryEnter(limiter, request).then((outcome) => outcomes.push(outcome))
    enter()
    await settled()
    clock.advance(30)
    enter()
    await settled()
    clock.advance(20)
    await settled()
    assert.equal(outcomes.length, 2, 'both are decided on when the first has waited for 50 ms')
    assert.equal(clock.now() - startedAtMs, 50)
    assert.match(limiter.problem ?? '', /^the authority is away \(no answer within 50 ms\); this server goes on with a share of 1\/3 of each limit\.$/)
    const asked = way.calls
    for (let i = 0; i < 50; i += 1) {
      const outcome = (() => {
        try {
          return limiter.enter(request)
        } catch {
          return null
        }
      })()
      assert.ok(!(outcome instanceof Promise))
    }
    assert.equal(way.calls, asked)
    way.mode = 'up'
    await stop()
  }) // prettier-ignore

  it('each server goes on with its share, and all three together with the limit', async () => {
    const { clock, servers, stop } = await makeCluster(3)
    const request = aRequest({ settings: tenantWith({ requestsPerMinute: 30 }) })
    for (const { limiter, way } of servers) {
      way.mode = 'refused'
      assert.equal(await countPasses(limiter, request, 30), 10)
    }
    clock.advance(6_000)
    for (const { limiter } of servers) assert.equal(await countPasses(limiter, request, 30), 1)
    for (const { way } of servers) way.mode = 'up'
    await stop()
  })

  it('requests at once are shared out too, and those under way count', async () => {
    const { servers, stop } = await makeCluster(3)
    const request = aRequest({ settings: tenantWith({ concurrentMax: 9 }) })
    assert.equal(await countPasses(servers[0]!.limiter, request, 2), 2)
    for (const { way } of servers) way.mode = 'refused'
    const counts = []
    for (const { limiter } of servers) counts.push(await countPasses(limiter, request, 20))
    // The lease of slots was for two; the first to be refused finds that nobody answers.
    assert.deepEqual(counts, [1, 3, 3])
    for (const { way } of servers) way.mode = 'up'
    await stop()
  })

  it('what was used is owed after it, by all servers', async () => {
    const { clock, servers, stop } = await makeCluster(3)
    const settings = tenantWith({ requestsPerMinute: 60 })
    const request = aRequest({ settings })
    await countPasses(servers[0]!.limiter, request, 1)
    for (const { way } of servers) way.mode = 'refused'
    await pass(clock, 1_000)
    let meanwhile = 0
    for (const { limiter } of servers) meanwhile += await countPasses(limiter, request, 15)
    assert.equal(meanwhile, 45)
    for (const { way } of servers) way.mode = 'up'
    await pass(clock, 500)
    for (const { limiter } of servers) assert.equal(limiter.problem, null)
    const after = await countPasses(servers[1]!.limiter, request, 60)
    assert.ok(after >= 13 && after <= 16, `${after} are left of 60`)
    await stop()
  })

  it('a long outage leaves no debt behind that was refilled meanwhile', async () => {
    const { clock, servers, stop } = await makeCluster(3)
    const request = aRequest({ settings: tenantWith({ requestsPerMinute: 60 }) })
    for (const { way } of servers) way.mode = 'refused'
    await pass(clock, 1_000)
    for (let second = 0; second < 300; second += 1) {
      for (const { limiter } of servers) await countPasses(limiter, request, 5)
      clock.advance(1_000)
    }
    for (const { limiter } of servers) await countPasses(limiter, request, 30)
    for (const { way } of servers) way.mode = 'up'
    await pass(clock, 500)
    clock.advance(10_000)
    const after = await countPasses(servers[0]!.limiter, request, 60)
    assert.ok(after >= 9 && after <= 12, `${after} of the ten that ten seconds bring`)
    await stop()
  })

  it('tokens that come back are known after it', async () => {
    const { clock, servers, stop } = await makeCluster(2)
    const settings = tenantWith({ tokensPerMinute: 600 })
    const before = await tryEnter(servers[0]!.limiter, aRequest({ settings, tokens: 600 }))
    assert.ok(isPass(before))
    servers[0]!.way.mode = 'refused'
    await pass(clock, 1_500)
    before.settle(300)
    servers[0]!.way.mode = 'up'
    await pass(clock, 500)
    const refusal = await tryEnter(servers[1]!.limiter, aRequest({ settings, tokens: 600 }))
    assert.ok(!isPass(refusal) && (refusal.retryAfterMs ?? 0) <= 30_000, `wait ${String(!isPass(refusal) && refusal.retryAfterMs)}`)
    await stop()
  }) // prettier-ignore

  it('a server that starts without it goes on alone, and says so once', async () => {
    const lines: string[] = []
    const log = pino({ level: 'info' }, new Writable({ write: (chunk, _e, done) => (lines.push(String(chunk)), done()) }))
    const clock = new ManualClock()
    const way = new TestWay(new MemoryAuthority(clock))
    way.mode = 'refused'
    const limiter = makeLimiter(clock, {}, { authority: way, log })
    await limiter.start()
    await pass(clock, 5_000)
    assert.equal(limiter.problem, 'the authority is away (connection refused); this server goes on with the whole of each limit.')
    assert.equal(await countPasses(limiter, aRequest({ settings: tenantWith({ requestsPerMinute: 5 }) }), 9), 5)
    way.mode = 'up'
    await pass(clock, 500)
    assert.equal(limiter.problem, null)
    assert.deepEqual(lines.map((line) => (JSON.parse(line) as { msg: string }).msg), [
      'the authority is away: this server goes on with its share of the limits',
      'the authority is back: limits are shared again',
    ])
    await limiter.stop()
    assert.equal(clock.pending, 0)
  }) // prettier-ignore

  it('stopping waits for it no longer than a request does, and not at all for a connection', async () => {
    const { clock, servers } = await makeCluster(2)
    const [one, other] = servers as [TestServer, TestServer]
    one.way.mode = 'silent'
    const stopping = one.limiter.stop()
    await settled()
    clock.advance(50)
    await stopping
    other.way.mode = 'refused'
    await pass(clock, 2_000)
    other.way.mode = 'silent'
    await pass(clock, 250)
    await other.limiter.stop()
    assert.equal(clock.pending, 0)
  })
})
