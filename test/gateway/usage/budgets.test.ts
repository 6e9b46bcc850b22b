import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { TenantSettings } from '../../../src/config/schema.ts'
import { ApiError } from '../../../src/core/errors.ts'
import { plainTenant } from '../../../src/gateway/tenants/tenant-settings.ts'
import { judgeSpending, monthAt, Spending } from '../../../src/gateway/usage/spending.ts'
import { dayMs, hourMs } from '../../../src/storage/usage-store.ts'
import { createDatabase, makeStore } from '../../helpers/postgres.ts'
import { serviceSkip } from '../../helpers/services.ts'
import { JumpyClock } from '../../queue/harness.ts'
import { Counting, useCountings } from './harness.ts'

const startMs = Date.UTC(2026, 0, 1)
/** The requests of these tests cost this much each. */
const cost = 0.00164
const perDay = (budgetPerDay: number): TenantSettings => ({ ...plainTenant, budgetPerDay })

const openCounting = useCountings()

/** `passed`, or the message of the refusal. */
async function ask({ budgets }: Counting, settings: TenantSettings, tenant = 'acme'): Promise<string> {
  try {
    await budgets.check(tenant, settings)
    return 'passed'
  } catch (error) {
    assert.ok(error instanceof ApiError && error.code === 'budget_exceeded', String(error))
    return `${error.message} ${error.retryAfterMs}`
  }
}

/** Runs what the timers have begun to its end. */
async function advance(counting: Counting, ms: number): Promise<void> {
  counting.clock.advance(ms)
  await counting.book.inTurn(() => Promise.resolve())
  await counting.book.inTurn(() => Promise.resolve())
}

describe('the budget of a tenant', () => {
  const message = (period: string, next: string) =>
    new RegExp(`spent its budget of 10 a ${period}; the next ${period} begins at ${next}`)
  const atMs = Date.UTC(2026, 1, 27, 22, 30)
  const judge = (day: number, month: number, budgets: [day: number, month: number]) => {
    try {
      judgeSpending({ day, month }, { budgetPerDay: budgets[0], budgetPerMonth: budgets[1] }, atMs)
      return null
    } catch (error) {
      return error as ApiError
    }
  }

  it('is passed until it is spent, and says when the next begins', () => {
    assert.equal(judge(9.99, 9.99, [10, 10]), null)
    assert.equal(judge(1e9, 1e9, [0, 0]), null, 'none is no limit')
    const day = judge(10, 10, [10, 20])
    assert.match(day?.message ?? '', message('day', '2026-02-28T00:00Z'))
    assert.equal(day?.retryAfterMs, 1.5 * hourMs)
    const month = judge(10, 10.5, [10, 10])
    assert.match(month?.message ?? '', message('month', '2026-03-01T00:00Z'))
    assert.equal(month?.retryAfterMs, 25.5 * hourMs)
  })

  it('begins anew with each day and month, and in the month that a clock is set back to', () => {
    const spending = new Spending(Date.UTC(2026, 0, 31, 12))
    const at = (wallMs: number, more: number) => {
      spending.roll(wallMs)
      spending.add(more, wallMs)
      return [spending.day, spending.month]
    }
    assert.deepEqual(at(Date.UTC(2026, 0, 31, 23), 1), [1, 1])
    assert.deepEqual(at(Date.UTC(2026, 1, 1), 2), [2, 2])
    assert.deepEqual(at(Date.UTC(2026, 1, 2), 4), [4, 6])
    assert.deepEqual(at(Date.UTC(2026, 0, 31), 8), [8, 8])
    spending.add(16, Date.UTC(2026, 0, 1))
    assert.deepEqual([spending.day, spending.month], [8, 24], 'a day of the month, and not today')
    assert.equal(monthAt(Date.UTC(2026, 11, 31), 1), Date.UTC(2027, 0, 1))
  })
})

describe('budgets', () => {
  it('cost nothing and ask nobody where there is none', async () => {
    await using counting = await openCounting()
    assert.equal(counting.budgets.check('acme', plainTenant), undefined)
    assert.equal(counting.store.reads, 0)
  })

  it('count what was stored before, what is not stored yet, and what is between', async () => {
    await using counting = await openCounting()
    const other = counting.beside()
    other.note()
    await other.book.flush()
    counting.note()
    assert.ok(counting.budgets.check('acme', perDay(3 * cost)) instanceof Promise, 'read at the first use')
    assert.equal(await ask(counting, perDay(2.5 * cost)), 'passed')
    assert.match(await ask(counting, perDay(2 * cost)), /spent its budget/)
    counting.note()
    assert.equal(await ask(counting, perDay(3.5 * cost)), 'passed')
    assert.match(await ask(counting, perDay(3 * cost)), /spent its budget/)
    await counting.book.flush()
    assert.equal(await ask(counting, perDay(3.5 * cost)), 'passed', 'what is stored now counts once')
    assert.equal(await ask(counting, perDay(cost), 'another'), 'passed')
  })

  it('see within two seconds what other processes have counted', async () => {
    await using counting = await openCounting()
    const other = counting.beside()
    await counting.budgets.start()
    await other.budgets.start()
    await counting.book.start()
    await other.book.start()
    assert.equal(await ask(counting, perDay(4 * cost)), 'passed')
    assert.equal(await ask(other, perDay(4 * cost)), 'passed')
    for (const one of [counting, other, counting, other]) one.note()
    assert.equal(await ask(counting, perDay(4 * cost)), 'passed')
    for (let n = 0; n < 2; n += 1) {
      counting.clock.advance(1_000)
      for (const one of [counting, other]) await advance(one, 0)
    }
    await advance(counting, 2_000)
    await advance(other, 0)
    assert.match(await ask(counting, perDay(3.99 * cost)), /spent its budget/)
    assert.match(await ask(other, perDay(3.99 * cost)), /spent its budget/)
    assert.equal(await ask(other, perDay(4.1 * cost)), 'passed', 'and nothing twice')
  })

  it('go on with what is known while the storage is away', async () => {
    await using counting = await openCounting()
    await counting.budgets.start()
    counting.note()
    await counting.book.flush()
    assert.match(await ask(counting, perDay(cost)), /spent its budget/)
    counting.store.isAway = true
    counting.note()
    await counting.book.flush()
    await advance(counting, 10_000)
    assert.match(await ask(counting, perDay(2 * cost)), /spent its budget/)
    assert.equal(await ask(counting, perDay(2.1 * cost)), 'passed')
    assert.equal(await ask(counting, perDay(cost), 'unknown'), 'passed', 'nothing is known of it')
    counting.note({ tenant: 'unknown' })
    assert.match(await ask(counting, perDay(cost), 'unknown'), /spent its budget/)
  })

  it('do not take a write twice whose fate is not known', async () => {
    await using counting = await openCounting()
    await counting.budgets.start()
    assert.equal(await ask(counting, perDay(2 * cost)), 'passed')
    counting.note()
    counting.store.fates.push('unknown', 'unknown')
    await counting.book.flush()
    await advance(counting, 2_000)
    assert.equal(await ask(counting, perDay(1.5 * cost)), 'passed')
    await counting.book.flush()
    await counting.book.flush()
    await advance(counting, 2_000)
    assert.equal(await ask(counting, perDay(1.5 * cost)), 'passed')
    assert.match(await ask(counting, perDay(cost)), /spent its budget/)
  })

  it('make the first request wait for a slow storage for a second at most', async () => {
    await using counting = await openCounting()
    counting.store.hold()
    const waiting = ask(counting, perDay(1))
    await new Promise((resolve) => setImmediate(resolve))
    counting.clock.advance(1_000)
    assert.equal(await waiting, 'passed')
    counting.store.release()
  })

  it('read once for many that ask together', async () => {
    await using counting = await openCounting()
    const all = Array.from({ length: 50 }, (_, n) => ask(counting, perDay(1), `t${n % 25}`))
    assert.deepEqual(new Set(await Promise.all(all)), new Set(['passed']))
    assert.equal(counting.store.reads, 1)
    assert.equal(counting.clock.pending, 0)
  })

  it('go over to the next day by themselves', async () => {
    await using counting = await openCounting()
    await counting.budgets.start()
    counting.note()
    await counting.book.flush()
    const wait = Number((await ask(counting, perDay(cost))).split(' ').at(-1))
    assert.equal(wait, dayMs)
    counting.clock.advance(dayMs - 1)
    await advance(counting, 0)
    assert.match(await ask(counting, perDay(cost)), / 1$/)
    await advance(counting, 1)
    assert.equal(await ask(counting, perDay(cost)), 'passed')
    const month = { ...plainTenant, budgetPerMonth: cost }
    assert.match(await ask(counting, month), new RegExp(` ${Date.UTC(2026, 1, 1) - startMs - dayMs}$`))
  })
})

const skip = await serviceSkip('postgresql')

describe('two servers on one PostgreSQL', { skip }, () => {
  it('hold one budget together', async () => {
    const database = await createDatabase()
    const stores = [makeStore(database.url), makeStore(database.url)]
    try {
      for (const store of stores) await store.start()
      const clock = new JumpyClock()
      const [one, two] = stores.map((store) => new Counting(store.usage, clock)) as [Counting, Counting]
      for (const counting of [one, two]) {
        await counting.budgets.start()
        assert.equal(await ask(counting, perDay(10 * cost)), 'passed')
      }
      // Both write to the same rows at once, and one of them does not hear that it was done.
      one.store.fates.push('unknown')
      for (let n = 0; n < 5; n += 1) {
        one.note()
        two.note()
        await Promise.all([one.book.flush(), two.book.flush()])
      }
      await one.book.flush()
      await advance(one, 2_000)
      await advance(two, 0)
      for (const counting of [one, two]) {
        assert.match(await ask(counting, perDay(9.99 * cost)), /spent its budget/)
        assert.equal(await ask(counting, perDay(10.1 * cost)), 'passed')
        assert.match((await counting.stored())[0] ?? '', /^acme\/k1\/m 10 0 1000 /)
      }
    } finally {
      for (const store of stores) await store.stop()
      await database.drop()
    }
  })
})
