import { strict as assert } from 'node:assert'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { taskStatuses } from '../../src/storage/task-states.ts'
import { getAs, refused, type Page, type Shown } from '../helpers/task-calls.ts'
import { TaskServer } from '../helpers/task-server.ts'
import { chatTask } from '../helpers/task-spec.ts'

let server: TaskServer
before(async () => {
  server = await TaskServer.start({ config: { queue: { tenantTasksMax: 5_000 } } })
})
after(() => server[Symbol.asyncDispose]())

const get = <T = Shown>(path: string, tenant: string) => getAs<T>(server, path, tenant)

describe('GET /v1/tasks', () => {
  type Known = {
    id: string
    band: number
    createdAt: number
    metadata: Record<string, string>
    status: string
    parent: string | null
  }

  /** Random tasks of one tenant, and what the list must say of them. */
  async function fill(tenant: string): Promise<Known[]> {
    const known: Known[] = []
    for (let index = 0; index < 120; index += 1) {
      const band = [0, 25, 30][index % 3] as number
      const metadata: Record<string, string> = {
        team: `t${index % 2}`,
        ...(index % 5 === 0 ? { 'a b[x]=&': 'ü%' } : {}),
      }
      const parent = index % 7 === 0 ? 'batch_1' : null
      const spec = chatTask({
        tenant,
        work: { endpoint: '/v1/completions', body: { model: 'm', prompt: 'x' } },
        band,
        runAtMs: index % 4 === 0 ? Date.now() + 1e9 : null,
        metadata,
        parent,
        position: parent === null ? null : index,
      })
      const { task } = await server.queue.submit(spec)
      let { status } = task as { status: string }
      if (index % 11 === 0) ({ status } = await server.queue.cancel(tenant, task.id))
      known.push({ id: task.id, band, createdAt: task.createdAtMs / 1000, metadata, status, parent })
    }
    return known
  }

  it('gives every task that fits the filter once, in order, whatever the page', async () => {
    const known = await fill('pages')
    const times = known.map(({ createdAt }) => createdAt)
    const filters: [query: string, fits: (task: Known) => boolean][] = [
      ['', () => true],
      ['status=delayed', ({ status }) => status === 'delayed'],
      ['status=delayed,cancelled', ({ status }) => status !== 'queued'],
      ['status=delayed&status=queued', ({ status }) => status !== 'cancelled'],
      ['status=running', () => false],
      ['priority=high', ({ band }) => band === 25],
      ['priority=30', ({ band }) => band === 30],
      ['model=m', () => true],
      ['model=other', () => false],
      ['batch=batch_1', ({ parent }) => parent === 'batch_1'],
      ['batch=none', ({ parent }) => parent === null],
      ['metadata[team]=t1', ({ metadata }) => metadata['team'] === 't1'],
      ['metadata[team]=T1', () => false],
      [`metadata[team]=t0&${encodeURIComponent('metadata[a b[x]=&]')}=${encodeURIComponent('ü%')}`, ({ metadata }) => metadata['a b[x]=&'] === 'ü%' && metadata['team'] === 't0'],
      [`created_after=${times[30]}`, ({ createdAt }) => createdAt >= (times[30] as number)],
      [`created_before=${times[30]}`, ({ createdAt }) => createdAt <= (times[30] as number)],
      [`created_after=${encodeURIComponent(new Date((times[50] as number) * 1000).toISOString())}&priority=urgent`, ({ createdAt, band }) => createdAt >= (times[50] as number) && band === 0],
    ] // prettier-ignore
    const walk = async (query: string, order: string, limit: number): Promise<string[]> => {
      const ids: string[] = []
      for (let after = ''; ;) {
        const page = await get<Page>(`/v1/tasks?${query}&order=${order}&limit=${limit}${after}`, 'pages')
        assert.ok(page.data.length <= limit)
        assert.equal(page.first_id, page.data[0]?.id ?? null)
        ids.push(...page.data.map(({ id }) => id))
        if (!page.has_more) return ids
        after = `&after=${page.last_id}`
      }
    }
    const arbitrary = fc.record({
      filter: fc.constantFrom(...filters),
      order: fc.constantFrom('asc', 'desc'),
      limit: fc.oneof(fc.integer({ min: 5, max: 100 }), fc.constant(100)),
    })
    await fc.assert(
      fc.asyncProperty(arbitrary, async ({ filter: [query, fits], order, limit }) => {
        const expected = known.filter(fits).map(({ id }) => id)
        assert.deepEqual(await walk(query, order, limit), order === 'asc' ? expected : expected.toReversed())
      }),
      { numRuns: 60 },
    )
    for (const [query, fits] of filters) {
      assert.deepEqual(await walk(query, 'asc', 40), known.filter(fits).map(({ id }) => id), query)
    }
  }) // prettier-ignore

  it('counts by status, and within a batch', async () => {
    const known = await fill('counts')
    const expected = (tasks: Known[]) =>
      Object.fromEntries(
        taskStatuses.map((status) => [status, tasks.filter((task) => task.status === status).length]),
      )
    assert.deepEqual((await get<Page>('/v1/tasks?limit=1&status=dead', 'counts')).counts, expected(known))
    const lines = known.filter(({ parent }) => parent === 'batch_1')
    assert.deepEqual((await get<Page>('/v1/tasks?batch=batch_1', 'counts')).counts, expected(lines))
  })

  const refusals: [query: string, param: string][] = [
    ['status=done', 'status'],
    ['status=', 'status'],
    ['status=queued,constructor', 'status'],
    ['priority=soon', 'priority'],
    ['priority=101', 'priority'],
    ['priority=1&priority=2', 'priority'],
    ['model=', 'model'],
    [`model=${'m'.repeat(513)}`, 'model'],
    ['model=a%00', 'model'],
    ['created_after=yesterday', 'created_after'],
    ['created_before=2026-02-30T00:00:00Z', 'created_before'],
    ['created_before=1767225600000', 'created_before'],
    ['metadata[]=x', 'metadata[]'],
    ['metadata[a]=1&metadata[a]=2', 'metadata[a]'],
    ['metadata[a]=%00', 'metadata[a]'],
    ['metadata=x', 'metadata'],
    [`metadata[a]=${'v'.repeat(513)}`, 'metadata[a]'],
    [Array.from({ length: 17 }, (_, at) => `metadata[k${at}]=1`).join('&'), 'metadata'],
    ['batch=../x', 'batch'],
    ['after=x%00', 'after'],
    ['after=nope', 'after'],
    ['after=batch_01', 'after'],
    ['after=', 'after'],
    ['order=up', 'order'],
    ['limit=0', 'limit'],
    ['limit=101', 'limit'],
    ['limit=1.5', 'limit'],
    ['limit=-1', 'limit'],
    ['limit=1e1', 'limit'],
    ['offset=1', 'offset'],
    ['__proto__=1', '__proto__'],
  ]
  for (const [query, param] of refusals) {
    it(`refuses ?${query.slice(0, 60)}`, async () => {
      await refused(await fetch(`${server.url}/v1/tasks?${query}`), 400, 'invalid_request', param)
    })
  }
})
