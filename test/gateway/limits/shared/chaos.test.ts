import { strict as assert } from 'node:assert'
import { it } from 'node:test'
import type { Pass } from '../../../../src/gateway/limits/pass.ts'
import {
  aCaller,
  aRequest,
  drawSeed,
  isPass,
  limitsOf,
  makeRandom,
  tenantWith,
  tryEnter,
} from '../harness.ts'
import { makeCluster, settled, type TestServer } from './cluster.ts'

/** However servers and their authority lost one another, in the end all is as it was: nothing leaks, nothing is owed. */
it('servers that lose and find their authority again and again end up where they began', async () => {
  const random = makeRandom(drawSeed())
  for (let run = 0; run < 8; run += 1) {
    const models = { m: limitsOf({ requestsPerMinute: 200, concurrentMax: 30 }) }
    const { clock, servers, stop } = await makeCluster(3, { burstMs: 10_000, models })
    const settings = tenantWith({ requestsPerMinute: 120, tokensPerMinute: 6_000, concurrentMax: 12 })
    const open: Pass[] = []
    let passes = 0
    const pending = new Set<Promise<void>>()
    for (let step = 0; step < 1_200; step += 1) {
      const { limiter, way } = servers[Math.floor(random() * 3)] as TestServer
      const choice = random()
      if (choice < 0.5) {
        const caller = aCaller({ tenant: random() < 0.5 ? 'a' : 'b' })
        const entering = tryEnter(limiter, aRequest({ settings, caller, tokens: Math.floor(random() * 200) }))
        const done = entering.then((outcome) => {
          if (!isPass(outcome)) return
          passes += 1
          open.push(outcome)
        })
        pending.add(done)
        void done.finally(() => pending.delete(done))
      } else if (choice < 0.75) {
        const [pass] = open.splice(Math.floor(random() * open.length), 1)
        const use = random()
        if (use < 0.2) pass?.cancel()
        else pass?.settle(use < 0.5 ? null : Math.floor(random() * 300))
      } else if (choice < 0.8) {
        const modes = ['up', 'up', 'slow', 'refused', 'silent'] as const
        way.mode = modes[Math.floor(random() * modes.length)] ?? 'up'
      } else if (choice < 0.9) way.held.shift()?.deliver()
      else clock.advance(Math.floor(random() * random() * 1_500))
      if (random() < 0.7) await settled()
    }
    for (const { way } of servers) way.mode = 'up'
    for (let step = 0; step < 20; step += 1) {
      for (const { way } of servers) while (way.held.length > 0) way.held.shift()?.deliver()
      clock.advance(100)
      await settled()
    }
    await Promise.all(pending)
    for (const pass of open) pass.settle(0)
    // As long as the largest debt takes, and then what idle servers give back.
    clock.advance(3_700_000)
    for (let step = 0; step < 30; step += 1) {
      clock.advance(250)
      await settled()
    }
    assert.ok(passes > 30, `${passes} passed`)
    for (const { limiter } of servers) assert.equal(limiter.problem, null)
    const { limiter } = servers[run % 3] as TestServer
    for (const tenant of ['a', 'b']) {
      const taken: Pass[] = []
      for (let i = 0; i < 40; i += 1) {
        const outcome = await tryEnter(limiter, aRequest({ settings, caller: aCaller({ tenant }), tokens: 5 }))
        if (isPass(outcome)) taken.push(outcome)
      }
      assert.equal(taken.length, 12, `requests of ${tenant} at once in run ${run}`)
      for (const pass of taken) pass.cancel()
      clock.advance(500)
      await settled()
    }
    const whole = await tryEnter(limiter, aRequest({ settings, tokens: 1_000, caller: aCaller({ tenant: 'a' }) }))
    assert.ok(isPass(whole), `the whole bucket of tokens is there in run ${run}`)
    whole.cancel()
    await stop()
    assert.equal(clock.pending, 0)
  }
}) // prettier-ignore
