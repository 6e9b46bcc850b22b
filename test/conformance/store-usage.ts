import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { Store } from '../../src/storage/store.ts'
import {
  dayMs,
  hourMs,
  usageKeptMs,
  type UsageQuery,
  type UsageRow,
  type UsageSum,
} from '../../src/storage/usage-store.ts'
import type { WithStore } from './store.ts'
import { startMs } from './tasks.ts'

const row = (more: Partial<UsageRow> = {}): UsageRow => ({
  ...{ hourAtMs: startMs, tenant: 'acme', key: 'k1', model: 'm' },
  ...{ requests: 1, failedRequests: 2, promptTokens: 100, cachedTokens: 40, completionTokens: 10 },
  ...{ busyMs: 12.5, cost: 0.25 },
  ...more,
})
const batch = (sequence: number, rows: readonly UsageRow[], writer = 'w1') => ({
  ...{ writer, sequence, rows, nowMs: startMs },
})
const everything: UsageQuery = {
  ...{ fromMs: 0, toMs: startMs * 2, width: 'all', groups: [], limit: 100 },
}
const none: UsageSum = {
  ...{ atMs: 0, tenant: '', key: '', model: '' },
  ...{ requests: 0, failedRequests: 0, promptTokens: 0, cachedTokens: 0, completionTokens: 0, busyMs: 0, cost: 0 },
} // prettier-ignore
/** What `times` plain rows make together. */
const sum = (times: number, more: Partial<UsageSum> = {}): UsageSum => ({
  ...none,
  ...{ requests: times, failedRequests: 2 * times, promptTokens: 100 * times, cachedTokens: 40 * times },
  ...{ completionTokens: 10 * times, busyMs: 12.5 * times, cost: 0.25 * times },
  ...more,
})
const requests = async ({ usage }: Store, query: Partial<UsageQuery> = {}) =>
  (await usage.sum({ ...everything, ...query })).map(
    ({ atMs, tenant, key, model, requests }) => `${(atMs - startMs) / hourMs} ${tenant}/${key}/${model} ${requests}`,
  ) // prettier-ignore

export function describeUsage(withStore: WithStore): void {
  describe('usage', () => {
    it(
      'adds sums of one hour, tenant, key and model together',
      withStore(async ({ usage }) => {
        assert.deepEqual(await usage.sum(everything), [])
        await usage.add(batch(1, [row(), row({ key: 'k2' })]))
        await usage.add(batch(2, [row()]))
        await usage.add(batch(1, [row()], 'w2'))
        const found = await usage.sum({ ...everything, width: 'hour', groups: ['tenant', 'key', 'model'] })
        const place = { atMs: startMs, tenant: 'acme', model: 'm' }
        assert.deepEqual(found, [sum(3, { ...place, key: 'k1' }), sum(1, { ...place, key: 'k2' })])
        assert.deepEqual(await usage.sum(everything), [sum(4)])
      }),
    )

    it(
      'applies a batch once, however often it is given',
      withStore(async ({ usage }) => {
        await Promise.all([1, 2, 3].map(() => usage.add(batch(1, [row()]))))
        await usage.add(batch(2, [row()]))
        await usage.add(batch(1, [row()]))
        await usage.add(batch(2, [row({ model: 'another' })]))
        assert.deepEqual(await usage.sum(everything), [sum(2)])
        assert.deepEqual(await usage.costs(['acme'], 0), [{ tenant: 'acme', dayAtMs: startMs, cost: 0.5 }])
      }),
    )

    it(
      'lets many add to the same rows at once, in whatever order',
      withStore(async ({ usage }) => {
        const names = Array.from({ length: 20 }, (_, index) => `t${index}`)
        const adds = Array.from({ length: 12 }, (_, writer) => {
          const rows = names.map((tenant) => row({ tenant }))
          return usage.add(batch(1, writer % 2 === 0 ? rows : rows.reverse(), `w${writer}`))
        })
        await Promise.all(adds)
        const found = await usage.sum({ ...everything, groups: ['tenant'] })
        assert.equal(found.length, 20)
        for (const one of found) assert.equal(one.requests, 12)
      }),
    )

    it(
      'adds two rows of one batch that are the same to it',
      withStore(async ({ usage }) => {
        await usage.add(batch(1, [row({ model: 'a\0b' }), row({ model: 'a\0b' }), row({ model: 'a\uFFFDb' })]))
        assert.deepEqual(await usage.sum(everything), [sum(3)])
      }), // prettier-ignore
    )

    it(
      'sums by hour, day, month or over all, in UTC',
      withStore(async (store) => {
        const at = (text: string) => Date.parse(`${text}:00Z`)
        const hours = ['2025-12-31T23:00', '2026-01-01T00:00', '2026-01-31T23:00', '2026-02-01T00:00']
        const rows = [...hours, '2026-02-28T23:00', '2026-03-01T00:00'].map((text) => row({ hourAtMs: at(text) }))
        await store.usage.add(batch(1, rows))
        const starts = async (width: UsageQuery['width']) =>
          (await store.usage.sum({ ...everything, width })).map(({ atMs, requests }) => [
            new Date(atMs).toISOString().slice(0, 13),
            requests,
          ])
        assert.equal((await starts('hour')).length, 6)
        assert.deepEqual(await starts('day'), [
          ['2025-12-31T00', 1],
          ['2026-01-01T00', 1],
          ['2026-01-31T00', 1],
          ['2026-02-01T00', 1],
          ['2026-02-28T00', 1],
          ['2026-03-01T00', 1],
        ])
        assert.deepEqual(await starts('month'), [
          ['2025-12-01T00', 1],
          ['2026-01-01T00', 2],
          ['2026-02-01T00', 2],
          ['2026-03-01T00', 1],
        ])
        assert.deepEqual(await starts('all'), [['1970-01-01T00', 6]])
      }), // prettier-ignore
    )

    it(
      'groups and filters by tenant, key, model and time',
      withStore(async (store) => {
        const rows = ['t1', 't2'].flatMap((tenant) =>
          ['', 'k1'].flatMap((key) => ['a', 'b'].map((model) => row({ tenant, key, model }))),
        )
        await store.usage.add(batch(1, [...rows, row({ hourAtMs: startMs + hourMs, tenant: 't1', model: 'a' })]))
        const all = { width: 'all' } as const
        const hours = -startMs / hourMs
        assert.deepEqual(await requests(store, { ...all, groups: ['tenant'] }), [`${hours} t1// 5`, `${hours} t2// 4`])
        assert.deepEqual(await requests(store, { ...all, groups: ['key'] }), [`${hours} // 4`, `${hours} /k1/ 5`])
        assert.deepEqual(await requests(store, { ...all, groups: ['model'], tenant: 't1' }), [
          `${hours} //a 3`,
          `${hours} //b 2`,
        ])
        assert.deepEqual(await requests(store, { tenant: 't1', key: 'k1', model: 'a', width: 'hour' }), [
          '0 // 1',
          '1 // 1',
        ])
        assert.deepEqual(await requests(store, { key: '', groups: ['tenant', 'model'] }), [
          `${hours} t1//a 1`,
          `${hours} t1//b 1`,
          `${hours} t2//a 1`,
          `${hours} t2//b 1`,
        ])
        assert.deepEqual(await requests(store, { fromMs: startMs + 1 }), [`${hours} // 1`])
        assert.deepEqual(await requests(store, { toMs: startMs + hourMs }), [`${hours} // 8`])
        assert.deepEqual(await requests(store, { tenant: 't3' }), [])
      }), // prettier-ignore
    )

    it(
      'goes on behind any sum, whatever is grouped',
      withStore(async (store) => {
        const rows = [0, 1, 26, 72, 24 * 40].flatMap((hour) =>
          ['t1', 't2'].flatMap((tenant) =>
            ['', 'k'].flatMap((key) =>
              ['a', 'ß', '\u{1F600}', '\uFF21'].map((model) =>
                row({ hourAtMs: startMs + hour * hourMs, tenant, key, model, requests: hour + 1 }),
              ),
            ),
          ),
        )
        await store.usage.add(batch(1, rows))
        for (const width of ['hour', 'day', 'month', 'all'] as const) {
          for (const groups of [[], ['model'], ['tenant', 'key'], ['tenant', 'key', 'model']] as const) {
            for (const filter of [{}, { key: 'k' }, { tenant: 't1', model: 'a' }]) {
              const query = { ...everything, width, groups, ...filter }
              const whole = await store.usage.sum(query)
              const paged: UsageSum[] = []
              for (let page = ['begin'] as unknown[]; page.length > 0;) {
                const last = paged.at(-1)
                page = await store.usage.sum({ ...query, limit: 2, ...(last && { after: last }) })
                paged.push(...(page as UsageSum[]))
              }
              assert.deepEqual(paged, whole)
            }
          }
        }
      }),
    )

    it(
      'knows what tenants have spent, day by day',
      withStore(async ({ usage }) => {
        const at = (hours: number, more: Partial<UsageRow>) => row({ hourAtMs: startMs + hours * hourMs, ...more })
        await usage.add(batch(1, [at(-1, {}), at(0, {}), at(23, { key: 'k2' }), at(24, { model: 'b', cost: 2 })]))
        await usage.add(batch(2, [at(0, { tenant: 'other', cost: 7 }), at(25, { tenant: 'free', cost: 0 })]))
        assert.deepEqual(await usage.costs(['acme'], startMs), [
          { tenant: 'acme', dayAtMs: startMs, cost: 0.5 },
          { tenant: 'acme', dayAtMs: startMs + dayMs, cost: 2 },
        ])
        assert.deepEqual(await usage.costs(['other', 'none', 'free'], 0), [
          { tenant: 'other', dayAtMs: startMs, cost: 7 },
        ])
        assert.deepEqual(await usage.costs([], 0), [])
      }), // prettier-ignore
    )

    it(
      'lets go of hours that are past their time, in steps',
      withStore(async ({ usage, maintenance }) => {
        const old = [1, 2, 3].map((hours) => row({ hourAtMs: startMs - hours * hourMs }))
        await usage.add(batch(1, [...old, row()]))
        const prune = () =>
          maintenance.prune({ finishedBeforeMs: 0, finishedMax: 1e9 }, startMs + usageKeptMs, 2)
        assert.deepEqual([await prune(), await prune(), await prune()], [2, 1, 0])
        assert.deepEqual(await usage.sum(everything), [sum(1)])
        assert.deepEqual(await usage.costs(['acme'], 0), [{ tenant: 'acme', dayAtMs: startMs, cost: 0.25 }])
      }),
    )
  })
}
