import { strict as assert } from 'node:assert'
import { after, before, describe, it } from 'node:test'
import type { UsageOptions } from '../../src/cli/usage.ts'
import { formatUsage, makeQuery, type ShownUsage } from '../../src/cli/usage-show.ts'
import { TaskServer } from '../helpers/task-server.ts'
import { run as runAny } from './command.ts'

const nowMs = Date.UTC(2026, 0, 10)
const now = nowMs / 1_000

describe('what autoglm usage asks', () => {
  const plain = { width: 'all', group_by: 'model' }
  const cases: [what: string, options: UsageOptions, query: Record<string, string>][] = [
    ['nothing but the defaults', {}, plain],
    ['spans back from now', { since: '7d', until: '90m' }, { ...plain, start: String(now - 604_800), end: String(now - 5_400) }],
    ['a day, and a time', { since: '2026-01-02', until: '2026-01-03T10:00:00+01:00' }, { ...plain, start: '2026-01-02T00:00:00Z', end: '2026-01-03T10:00:00+01:00' }],
    ['names in their order', { by: ['model, tenant', 'key'], per: 'day' }, { width: 'day', group_by: 'tenant,key,model' }],
    ['all tenants', { allTenants: true, model: 'm' }, { ...plain, tenant: '*', model: 'm' }],
    ['one tenant and key', { tenant: 't', key: 'none' }, { ...plain, tenant: 't', key: 'none' }],
  ] // prettier-ignore
  for (const [what, options, query] of cases) {
    it(what, () => assert.deepEqual(makeQuery(options, nowMs), query))
  }
  const mistakes: [options: UsageOptions, message: RegExp][] = [
    [{ since: 'yesterday' }, /--since yesterday is not allowed/],
    [{ until: '7w' }, /--until 7w is not allowed/],
    [{ per: 'week' }, /--per week is not allowed; one of hour, day, month/],
    [{ by: ['model,colour'] }, /--by colour is not allowed; one or more of tenant, key, model/],
    [{ tenant: 'a', allTenants: true }, /can't be used together/],
  ]
  for (const [options, message] of mistakes) {
    it(`refuses ${JSON.stringify(options)}`, () => assert.throws(() => makeQuery(options, nowMs), message))
  }
})

describe('what autoglm usage prints', () => {
  const row = (more: Partial<ShownUsage>): ShownUsage => ({
    ...{ id: 'usage_1', start: now, end: now + 86_400, tenant: 'acme', key: null, model: 'm' },
    ...{ requests: 10, failed_requests: 1, prompt_tokens: 1_000, cached_tokens: 200, completion_tokens: 300 },
    ...{ seconds: 12.345, cost: 0.1 },
    ...more,
  })
  it('is a table with a sum below', () => {
    const text = formatUsage([row({}), row({ model: 'n', cost: 0.2 })], { by: ['model'], per: 'day' })
    assert.equal(
      text,
      [
        'DAY         MODEL  REQUESTS  FAILED  PROMPT  CACHED  COMPLETION  SECONDS  COST',
        '2026-01-10  m      10        1       1000    200     300         12.3     0.1',
        '2026-01-10  n      10        1       1000    200     300         12.3     0.2',
        'all                20        2       2000    400     600         24.7     0.3',
      ].join('\n'),
    )
  })
  it('is one line where there is one sum, and says when there is none', () => {
    assert.equal(formatUsage([row({})], { by: [], per: null }).split('\n').length, 2)
    assert.match(
      formatUsage([row({ key: 'none' })], { by: ['key'], per: 'hour' }),
      /2026-01-10T00:00Z {2}none/,
    )
    assert.match(formatUsage([row({})], { by: [], per: 'month' }), /\n2026-01 /)
    assert.equal(formatUsage([], { by: ['model'], per: null }), 'nothing was used')
  })
})

describe('autoglm usage', () => {
  let server: TaskServer
  before(async () => {
    server = await TaskServer.start()
    const sums = { requests: 2, failedRequests: 1, promptTokens: 9, cachedTokens: 0, completionTokens: 4 }
    const hourAtMs = Math.floor(server.clock.wallMs() / 3_600_000) * 3_600_000
    // More than fit into a page.
    const rows = Array.from({ length: 1_200 }, (_, n) => ({
      ...{ hourAtMs, tenant: 'default', key: '', model: `m${String(n).padStart(4, '0')}` },
      ...{ ...sums, busyMs: 500, cost: 0.5 },
    }))
    await server.store.usage.add({ writer: 'w', sequence: 1, nowMs: hourAtMs, rows })
  })
  after(() => server[Symbol.asyncDispose]())

  const run = (...args: string[]) =>
    runAny(['usage', ...args], { cwd: '/', env: { AUTOGLM_URL: server.url } })

  it('shows what a server has counted', async () => {
    const { code, stdout, stderr } = await run('--since', '2d', '--by', 'tenant')
    assert.equal(code, 0, stderr)
    assert.match(stdout, /^TENANT +REQUESTS +FAILED .*\ndefault +2400 +1200 +10800 +0 +4800 +600\.0 +600\n$/)
  })

  it('prints all pages as JSON', async () => {
    const { code, stdout, stderr } = await run('--since', '2d', '--json')
    assert.equal(code, 0, stderr)
    const { usage } = JSON.parse(stdout) as { usage: ShownUsage[] }
    assert.equal(new Set(usage.map(({ model }) => model)).size, 1_200)
  })

  it('says whose usage it has shown when there is none', async () => {
    const own = await run('--since', '1h', '--model', 'nobody')
    assert.equal(own.stdout, 'nothing was used\n')
    assert.match(own.stderr, /the tenant of the key alone; --tenant NAME and --all-tenants/)
    const all = await run('--since', '1h', '--model', 'nobody', '--all-tenants')
    assert.equal(all.stderr, '')
  })

  it('says what is wrong', async () => {
    const { code, stderr } = await run('--since', '2100-01-01', '--until', '2d')
    assert.equal(code, 1)
    assert.match(stderr, /^error: .*`end` must lie after `start`/)
  })
})
