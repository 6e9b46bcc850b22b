import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { Pass } from '../../../../src/gateway/limits/pass.ts'
import {
  aCaller,
  aRequest,
  countPasses,
  drawSeed,
  findExcess,
  isPass,
  limitsOf,
  makeRandom,
  tenantWith,
  tryEnter,
  type Taken,
} from '../harness.ts'
import { makeCluster, settled, type TestServer } from './cluster.ts'

const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0)

describe('servers that share their limits', () => {
  it('let through together what one would have, and all of it', async () => {
    const { clock, servers, stop } = await makeCluster(3)
    const request = aRequest({ settings: tenantWith({ requestsPerMinute: 60 }) })
    const passes = [0, 0, 0]
    for (let round = 0; round < 60; round += 1) {
      for (const [i, { limiter }] of servers.entries()) passes[i] = (passes[i] ?? 0) + (await countPasses(limiter, request, 1))
    }
    assert.ok(sum(passes) <= 60 && sum(passes) >= 45, passes.join(' + '))
    // What was leased ahead and not needed comes back to whoever needs it.
    for (let step = 0; step < 4; step += 1) {
      clock.advance(250)
      await settled()
    }
    clock.advance(1_000)
    await settled()
    assert.equal(sum(passes) + (await countPasses(servers[0]!.limiter, request, 60)), 62)
    await stop()
  }) // prettier-ignore

  it('tell the exact time after which a request passes', async () => {
    const { clock, servers, stop } = await makeCluster(2)
    const request = aRequest({ settings: tenantWith({ tokensPerMinute: 600 }), tokens: 600 })
    assert.equal(await countPasses(servers[0]!.limiter, request, 1), 1)
    const refusal = await tryEnter(servers[1]!.limiter, request)
    assert.ok(!isPass(refusal))
    assert.equal(refusal.retryAfterMs, 60_000)
    clock.advance(59_999)
    assert.equal(await countPasses(servers[1]!.limiter, request, 1), 0)
    clock.advance(1)
    assert.equal(await countPasses(servers[1]!.limiter, request, 1), 1)
    await stop()
  })

  it('name the rate that is used up, and not the slots that nobody asked for because of it', async () => {
    const { clock, servers, stop } = await makeCluster(2)
    const request = aRequest({ settings: tenantWith({ requestsPerMinute: 20, concurrentMax: 3 }) })
    const { limiter } = servers[0]!
    let refusal: Awaited<ReturnType<typeof tryEnter>> | null = null
    for (let at = 0; at < 30 && refusal === null; at += 1) {
      const entered = await tryEnter(limiter, request)
      if (isPass(entered)) entered.settle(0)
      else refusal = entered
      await settled()
    }
    clock.advance(10)
    await settled()
    for (const outcome of [refusal, await tryEnter(limiter, request)]) {
      assert.ok(outcome !== null && !isPass(outcome))
      assert.equal(outcome.code, 'rate_limited')
    }
    await stop()
  })

  it('ask seldom in a steady flow, and never twice for one request', async () => {
    const { clock, servers, stop } = await makeCluster(2)
    const { limiter, way } = servers[0]!
    const request = aRequest({ settings: tenantWith({ requestsPerMinute: 600_000, tokensPerMinute: 60_000_000 }), tokens: 100 })
    const before = way.calls
    let waited = 0
    for (let i = 0; i < 5_000; i += 1) {
      const outcome = limiter.enter(request)
      if (outcome instanceof Promise) waited += 1
      ;(await outcome).settle(100)
      if (i % 2 === 0) clock.advance(1)
      if (i % 10 === 0) await settled()
    }
    const calls = way.calls - before
    assert.ok(calls < 250, `${calls} asks for 5000 requests`)
    assert.ok(waited < 100, `${waited} of 5000 requests waited`)
    await stop()
  }) // prettier-ignore

  it('do not ask for a tenant that is known to have nothing left', async () => {
    const { servers, stop } = await makeCluster(2)
    const { limiter, way } = servers[0]!
    const settings = tenantWith({ requestsPerMinute: 100 })
    const greedy = aRequest({ settings, caller: aCaller({ tenant: 'greedy' }) })
    assert.ok((await countPasses(limiter, greedy, 200)) <= 100)
    const before = way.calls
    assert.equal(await countPasses(limiter, greedy, 10_000), 0)
    assert.ok(way.calls - before <= 2, `${way.calls - before} asks`)
    await stop()
  })

  it('send all who come at once along with one ask', async () => {
    const { servers, stop } = await makeCluster(2)
    const { limiter, way } = servers[0]!
    const request = aRequest({ settings: tenantWith({ requestsPerMinute: 600, concurrentMax: 80 }) })
    const before = way.calls
    const outcomes = await Promise.all(Array.from({ length: 100 }, () => tryEnter(limiter, request)))
    assert.equal(outcomes.filter(isPass).length, 80)
    assert.ok(way.calls - before <= 2, `${way.calls - before} asks`)
    await stop()
  })

  it('do not refuse a request for what others took while it waited', async () => {
    const { clock, servers, stop } = await makeCluster(2, {
      models: { m: limitsOf({ requestsPerMinute: 600 }) },
    })
    const { limiter, way } = servers[0]!
    const settings = tenantWith({ requestsPerMinute: 6_000 })
    for (let i = 0; i < 40; i += 1) {
      await countPasses(limiter, aRequest({ settings, model: 'n' }), 1)
      clock.advance(2)
    }
    way.mode = 'slow'
    const waiting = tryEnter(limiter, aRequest({ settings, model: 'm' }))
    let taken = 0
    for (; !(limiter.enter(aRequest({ settings, model: 'n' })) instanceof Promise); taken += 1);
    assert.ok(taken > 0, 'there was a lease to take from')
    for (let turn = 0; turn < 6; turn += 1) {
      await settled()
      way.held.shift()?.deliver()
    }
    assert.ok(isPass(await waiting))
    way.mode = 'up'
    await stop()
  })

  it('correct tokens for all', async () => {
    const { clock, servers, stop } = await makeCluster(2)
    const settings = tenantWith({ tokensPerMinute: 600 })
    const pass = await tryEnter(servers[0]!.limiter, aRequest({ settings, tokens: 600 }))
    assert.ok(isPass(pass))
    pass.settle(100)
    clock.advance(250)
    await settled()
    const other = await tryEnter(servers[1]!.limiter, aRequest({ settings, tokens: 500 }))
    assert.ok(isPass(other))
    other.settle(1_100)
    clock.advance(250)
    await settled()
    const refusal = await tryEnter(servers[0]!.limiter, aRequest({ settings, tokens: 10 }))
    assert.ok(!isPass(refusal))
    assert.equal(refusal.retryAfterMs, 60_500)
    await stop()
  })
})

describe('slots that are shared', () => {
  const settings = tenantWith({ concurrentMax: 10 })
  const request = aRequest({ settings })

  it('are never more than the limit, on any way out, and all can be had', async () => {
    const random = makeRandom(drawSeed())
    const { clock, servers, stop } = await makeCluster(3)
    const open: Pass[] = []
    for (let i = 0; i < 4_000; i += 1) {
      const { limiter } = servers[Math.floor(random() * 3)] as TestServer
      if (random() < 0.55) {
        const outcome = await tryEnter(limiter, request)
        if (isPass(outcome)) open.push(outcome)
        assert.ok(open.length <= 10, `${open.length} at once`)
      } else {
        const [pass] = open.splice(Math.floor(random() * open.length), 1)
        if (random() < 0.5) pass?.cancel()
        else pass?.settle(null)
      }
      if (random() < 0.1) clock.advance(Math.floor(random() * 300))
      if (random() < 0.3) await settled()
    }
    for (const pass of open) pass.settle(null)
    for (let step = 0; step < 5; step += 1) {
      clock.advance(250)
      await settled()
    }
    assert.equal(await countPasses(servers[2]!.limiter, request, 20), 10)
    await stop()
  })

  it('of a server that died are free again', async () => {
    const { clock, servers, stop } = await makeCluster(2)
    const [dead, living] = servers as [TestServer, TestServer]
    assert.equal(await countPasses(dead.limiter, request, 6), 6)
    assert.equal(await countPasses(living.limiter, request, 10), 4)
    dead.way.mode = 'silent'
    for (let step = 0; step < 22; step += 1) {
      clock.advance(250)
      await settled()
    }
    assert.equal(await countPasses(living.limiter, request, 10), 6)
    await stop()
  })

  it('of a server that was silent for too long are told again', async () => {
    const { clock, servers, stop } = await makeCluster(2)
    const [silent, other] = servers as [TestServer, TestServer]
    assert.equal(await countPasses(silent.limiter, request, 6), 6)
    silent.way.mode = 'refused'
    for (let step = 0; step < 24; step += 1) {
      clock.advance(250)
      await settled()
    }
    silent.way.mode = 'up'
    for (let step = 0; step < 4; step += 1) {
      clock.advance(250)
      await settled()
    }
    assert.equal(await countPasses(other.limiter, request, 10), 4)
    await stop()
  })

  it('of requests that last long are not forgotten', async () => {
    const { clock, servers, stop } = await makeCluster(2)
    assert.equal(await countPasses(servers[0]!.limiter, request, 10), 10)
    for (let step = 0; step < 4 * 300; step += 1) {
      clock.advance(250)
      if (step % 2 === 0) await settled()
    }
    assert.equal(await countPasses(servers[1]!.limiter, request, 10), 0)
    await stop()
  })
})

describe('any interleaving on three servers', () => {
  it('never lets more than burst + rate * time through, whatever the order and the clocks', async () => {
    const random = makeRandom(drawSeed())
    const usedShares: number[] = []
    for (let run = 0; run < 12; run += 1) {
      const burstMs = 2_000
      const { clock, servers, stop } = await makeCluster(3, { burstMs })
      const perMinute = 60 * Math.ceil(random() * 200)
      const settings = tenantWith({ requestsPerMinute: perMinute, tokensPerMinute: perMinute * 100 })
      const requests: Taken[] = []
      const tokens: Taken[] = []
      for (const { way } of servers) way.mode = 'slow'
      let asked = 0
      const startedAtMs = clock.now()
      const enter = ({ limiter }: TestServer) => {
        const count = Math.floor(random() * 150)
        asked += 1
        void tryEnter(limiter, aRequest({ settings, tokens: count })).then((outcome) => {
          if (!isPass(outcome)) return
          requests.push({ atMs: clock.now(), units: 1 })
          tokens.push({ atMs: clock.now(), units: count })
          if (random() < 0.5) return outcome.settle(null)
          const used = Math.floor(random() * count)
          tokens.push({ atMs: clock.now(), units: used - count })
          outcome.settle(used)
        })
      }
      const deliverAll = async () => {
        for (let turn = 0; turn < 20; turn += 1) {
          for (const { way } of servers) way.held.shift()?.deliver()
          await settled()
        }
      }
      let sinceMs = 0
      for (let step = 0; step < 1_500; step += 1) {
        const server = servers[Math.floor(random() * 3)] as TestServer
        const choice = random()
        if (choice < 0.5) for (let n = Math.ceil(random() * 6); n > 0; n -= 1) enter(server)
        else if (choice < 0.9) server.way.held.shift()?.deliver()
        else if (sinceMs < 35) {
          const ms = Math.ceil(random() * 10)
          sinceMs += ms
          clock.advance(ms)
        } else {
          // No answer may be late, or this becomes a test of outages.
          await deliverAll()
          for (const { way } of servers) way.mode = 'up'
          clock.advance(random() < 0.8 ? 1 : Math.floor(random() * 3_000))
          await settled()
          for (const { way } of servers) way.mode = 'slow'
          sinceMs = 0
        }
        await settled()
      }
      await deliverAll()
      assert.equal(servers.map(({ limiter }) => limiter.problem).join(''), '', 'nobody lost the authority')
      const rate = perMinute / 60_000
      assert.ok(requests.length < asked, 'there was more than enough to do')
      const mayPass = rate * (burstMs + clock.now() - startedAtMs)
      usedShares.push(requests.length / Math.min(asked, mayPass))
      const excess = findExcess(requests, { rate, capacity: rate * burstMs })
      assert.ok(excess < 1e-3, `requests exceeded by ${excess} in run ${run}`)
      const more = findExcess(tokens, { rate: rate * 100, capacity: rate * 100 * burstMs })
      assert.ok(more < 1e-3, `tokens exceeded by ${more} in run ${run}`)
      for (const { way } of servers) way.mode = 'up'
      await stop()
    }
    // Else it would be easy.
    assert.ok(
      sum(usedShares) / usedShares.length > 0.6,
      usedShares.map((share) => share.toFixed(2)).join(' '),
    )
  })
})
