import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { LimitSettings } from '../../../src/config/schema.ts'
import { localMeters } from '../../../src/gateway/limits/meter.ts'
import type { Scope } from '../../../src/gateway/limits/scope.ts'
import { ScopeBook } from '../../../src/gateway/limits/scope-book.ts'
import { aCaller, limitsOf, tenantWith } from './harness.ts'

const settings = tenantWith({ requestsPerMinute: 60, tokensPerMinute: 60 })

const finder =
  (book: ScopeBook) =>
  (tenant: string, nowMs = 0): Scope =>
    book.find({ caller: aCaller({ tenant }), settings, model: 'm' }, {}, 60_000, nowMs)[0] as Scope

const isRefused = (find: () => unknown): boolean => {
  try {
    find()
    return false
  } catch (error) {
    assert.equal((error as { code: string }).code, 'overloaded')
    return true
  }
}

describe('the book of scopes', () => {
  it('is bounded: the idle ones are forgotten, those that count something never', () => {
    const book = new ScopeBook(localMeters, 4)
    const find = finder(book)
    for (const tenant of ['a', 'b', 'c', 'd']) find(tenant).requests?.take(1, 0)
    assert.throws(() => find('e', 500), { code: 'overloaded' })
    const a = find('a', 500)
    a.slots.take(500)
    find('e', 1_000)
    assert.equal(book.size, 4)
    assert.equal(find('a', 1_000), a)
    for (const tenant of ['f', 'g', 'h']) find(tenant, 2_000)
    assert.equal(find('a', 2_000), a)
  })

  it('spares one that is used whatever else comes', () => {
    const book = new ScopeBook(localMeters, 100)
    const find = finder(book)
    const hot = find('hot')
    for (let i = 0; i < 10_000; i += 1) {
      find(`cold-${i}`)
      assert.equal(find('hot'), hot)
    }
    assert.equal(book.size, 100)
  })

  it('finds room behind many that are in debt', () => {
    const book = new ScopeBook(localMeters, 512)
    const find = finder(book)
    for (let i = 0; i < 512; i += 1) if (i < 256) find(`${i}`).tokens?.correct(10_000, 0)
      else find(`${i}`) // prettier-ignore
    let refused = 0
    for (let i = 0; i < 200; i += 1) if (isRefused(() => find(`new-${i}`))) refused += 1
    assert.ok(refused <= 4, `${refused} of 200 newcomers were refused`)
    for (let i = 0; i < 256; i += 1) assert.ok((find(`${i}`).tokens?.levelAt(0) ?? 0) < 0, `the debt of ${i}`)
  })

  it('forgets nothing that the same request needs', () => {
    const book = new ScopeBook(localMeters, 4)
    const limits: LimitSettings = limitsOf({ requestsPerMinute: 60 })
    const models = { m: limits, n: limits }
    const ask = (tenant: string, model: string) =>
      book.find(
        {
          caller: aCaller({ tenant, keyId: 'k', limits }),
          settings: tenantWith({ ...limits, modelLimits: models }),
          model,
        },
        models,
        60_000,
        0,
      )
    for (let i = 0; i < 20; i += 1) {
      const scopes = ask(`t${i % 3}`, i % 2 === 0 ? 'm' : 'n')
      assert.deepEqual(scopes.map(({ kind }) => kind), ['key', 'tenant_model', 'tenant', 'model']) // prettier-ignore
      assert.equal(new Set(scopes).size, 4)
      assert.deepEqual(ask(`t${i % 3}`, i % 2 === 0 ? 'm' : 'n'), scopes)
      assert.equal(book.size, 4)
    }
  })

  it('finds a busy scope among 60,000 about as fast as alone', () => {
    const alone = new ScopeBook(localMeters)
    const crowded = new ScopeBook(localMeters)
    for (let i = 0; i < 60_000; i += 1) finder(crowded)(`t${i}`)
    const time = (book: ScopeBook) => {
      const find = finder(book)
      let best = Infinity
      for (let round = 0; round < 5; round += 1) {
        const startedAt = process.hrtime.bigint()
        for (let i = 0; i < 6_000; i += 1) find('t7')
        best = Math.min(best, Number(process.hrtime.bigint() - startedAt))
      }
      return best / 6_000
    }
    const [aloneNs, crowdedNs] = [time(alone), time(crowded)]
    // A scope that moves at each use is more than ten times slower here.
    assert.ok(crowdedNs < aloneNs * 5, `${crowdedNs} ns among many, ${aloneNs} ns alone`)
  })
})
