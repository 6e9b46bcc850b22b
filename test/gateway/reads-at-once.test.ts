import { strict as assert } from 'node:assert'
import { mock, test } from 'node:test'
import { ReadsAtOnce } from '../../src/gateway/reads-at-once.ts'
import { TaskServer } from '../helpers/task-server.ts'

const refused = { code: 'concurrency_limited', status: 429 }

/** A read that ends when the test says so. */
function begin(reads: ReadsAtOnce, tenant: string) {
  const end = Promise.withResolvers<string>()
  const read = mock.fn(() => end.promise)
  return { done: reads.run(tenant, read), read, end }
}

test('a tenant reads twice at once, and another as it likes', async () => {
  const reads = new ReadsAtOnce()
  const [first, second] = [begin(reads, 'a'), begin(reads, 'a')]
  const third = begin(reads, 'a')
  await assert.rejects(third.done, { ...refused, message: /2 of this tenant/ })
  assert.equal(third.read.mock.callCount(), 0)
  const other = begin(reads, 'b')
  first.end.resolve('sums')
  assert.equal(await first.done, 'sums')
  const failing = begin(reads, 'a')
  failing.end.reject(new Error('away'))
  await assert.rejects(failing.done, /away/)
  const last = begin(reads, 'a')
  for (const { end } of [second, other, last]) end.resolve('sums')
  await Promise.all([second.done, other.done, last.done])
})

test('all tenants together have an end, too', async () => {
  const reads = new ReadsAtOnce()
  const open = Array.from({ length: 16 }, (_, n) => begin(reads, `t${n}`))
  await assert.rejects(begin(reads, 'one more').done, { ...refused, message: /16 of all/ })
  for (const { end } of open) end.resolve('')
  await Promise.all(open.map(({ done }) => done))
  const again = begin(reads, 'one more')
  again.end.resolve('')
  await again.done
})

test('GET /v1/usage is such a read', async () => {
  await using server = await TaskServer.start()
  const end = Promise.withResolvers<never[]>()
  const asked = Promise.withResolvers<void>()
  const sum = mock.method(server.store.usage, 'sum', () => {
    if (sum.mock.callCount() === 1) asked.resolve()
    return end.promise
  })
  const ask = () => fetch(`${server.url}/v1/usage`)
  const both = [ask(), ask()]
  await asked.promise
  const third = await ask()
  assert.equal(third.status, 429)
  assert.equal(third.headers.get('retry-after'), '1')
  assert.equal(((await third.json()) as { error: { code: string } }).error.code, 'concurrency_limited')
  end.resolve([])
  for (const { status } of await Promise.all(both)) assert.equal(status, 200)
})
