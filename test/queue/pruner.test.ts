import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { planTimes, Pruner, type KeepTimes } from '../../src/queue/pruner.ts'
import { StoreUnavailable, type EndedPlace, type TenantPrune } from '../../src/storage/store.ts'
import { ManualClock } from '../helpers/clock.ts'

type Ended = { tenant: string; atMs: number }

/** The ended tasks of a store, as an array; counts what each call reads. */
class EndedTasks {
  rows: Ended[] = []
  read = 0
  isAway = false
  readonly walks: TenantPrune[] = []

  prune({ finishedBeforeMs }: { finishedBeforeMs: number }, _nowMs: number, limit: number): Promise<number> {
    const old = this.rows.filter(({ atMs }) => atMs < finishedBeforeMs).slice(0, limit)
    this.rows = this.rows.filter((row) => !old.includes(row))
    this.read += old.length
    return Promise.resolve(old.length)
  }

  pruneTenants(walk: TenantPrune): Promise<{ removed: number; next: EndedPlace | null }> {
    if (this.isAway) return Promise.reject(new StoreUnavailable('away'))
    this.walks.push(walk)
    // Each ends in a moment of its own here.
    const fromMs = walk.from.finishedAtMs + (walk.from.tie === '' ? 0 : 1)
    const seen = this.rows.filter(({ atMs }) => atMs >= fromMs && atMs < walk.beforeMs)
    const page = seen.slice(0, walk.readMax)
    this.read += page.length
    const isTheirs = walk.whose === 'theirs'
    const gone = page.filter(({ tenant }) => walk.tenants.includes(tenant) === isTheirs).slice(0, walk.limit)
    this.rows = this.rows.filter((row) => !gone.includes(row))
    const isEnd = page.length === seen.length && gone.length < walk.limit
    const reached = gone.length === walk.limit ? gone.at(-1) : page.at(-1)
    return Promise.resolve({
      removed: gone.length,
      next: isEnd || !reached ? null : { finishedAtMs: reached.atMs, tie: 'reached' },
    })
  }
}

const dayMs = 86_400_000
const weekMs = 7 * dayMs

function open(own: KeepTimes['own'], keepMs = weekMs) {
  const clock = new ManualClock()
  const tasks = new EndedTasks()
  const times: { now: KeepTimes } = { now: { keepMs, own, finishedMax: 1e9 } }
  const pruner = new Pruner({ maintenance: tasks, clock, times: () => times.now })
  /** A whole pass; what it removed and read. */
  const pass = async (limit = 10) => {
    const readBefore = tasks.read
    let removed = 0
    for (let steps = 1; ; steps += 1) {
      const step = await pruner.step(limit)
      removed += step.removed
      if (step.isDone) return { removed, read: tasks.read - readBefore }
      assert.ok(steps < 10_000, 'the pass does not end')
    }
  }
  const end = (tenant: string, agoMs: number, count = 1) => {
    for (let row = 0; row < count; row += 1) tasks.rows.push({ tenant, atMs: clock.wallMs() - agoMs - row })
    tasks.rows.sort((a, b) => a.atMs - b.atMs)
  }
  const left = () => tasks.rows.map(({ tenant }) => tenant).sort()
  return { clock, tasks, times, pruner, pass, end, left }
}

test('walks are needed for all times but the longest', () => {
  const own = (times: Record<string, number>) =>
    Object.entries(times).map(([tenant, keepMs]) => ({ tenant, keepMs }))
  const plan = (times: Record<string, number>) => planTimes({ keepMs: 7, own: own(times), finishedMax: 1 })
  assert.deepEqual(plan({}), { longestMs: 7, shorter: [] })
  assert.deepEqual(plan({ same: 7 }), { longestMs: 7, shorter: [] })
  assert.deepEqual(plan({ a: 1, b: 2, c: 1, same: 7 }), {
    longestMs: 7,
    shorter: [
      { keepMs: 1, whose: 'theirs', tenants: ['a', 'c'] },
      { keepMs: 2, whose: 'theirs', tenants: ['b'] },
    ],
  })
  assert.deepEqual(plan({ a: 1, long: 9 }), {
    longestMs: 9,
    shorter: [
      { keepMs: 1, whose: 'theirs', tenants: ['a'] },
      { keepMs: 7, whose: 'others', tenants: ['a', 'long'] },
    ],
  })
})

test('each tenant keeps its tasks for its own time, the others for that of all', async () => {
  const { pass, end, left } = open([
    { tenant: 'brief', keepMs: dayMs },
    { tenant: 'thrifty', keepMs: 9 * weekMs },
  ])
  for (const tenant of ['brief', 'other', 'thrifty']) {
    for (const agoMs of [dayMs / 2, 2 * dayMs, 2 * weekMs, 10 * weekMs]) end(tenant, agoMs)
  }
  await pass(1)
  assert.deepEqual(left(), ['brief', 'other', 'other', 'thrifty', 'thrifty', 'thrifty'])
})

test('a pass reads what has grown old since the last one, not what a tenant keeps for long', async () => {
  const { clock, pass, end, left } = open([{ tenant: 'thrifty', keepMs: 9 * weekMs }])
  end('thrifty', 2 * weekMs, 5_000)
  end('other', 2 * weekMs + 10_000, 3)
  assert.deepEqual(await pass(), { removed: 3, read: 5_003 })
  for (let minute = 1; minute <= 30; minute += 1) {
    clock.advance(60_000)
    assert.deepEqual(await pass(), { removed: 0, read: 0 })
  }
  end('other', weekMs - 1_000, 2)
  clock.advance(60_000)
  assert.deepEqual(await pass(), { removed: 2, read: 2 })
  assert.equal(left().length, 5_000)
})

test('what was written late, and what a walk had to leave, is found by a later pass', async () => {
  const { clock, pass, end, tasks } = open([{ tenant: 'brief', keepMs: dayMs }])
  await pass()
  end('brief', dayMs + 30_000)
  assert.equal((await pass()).removed, 1, 'an end that was committed after the walk had come past it')
  end('brief', 3 * dayMs)
  assert.equal(
    (await pass()).removed,
    0,
    'as the lines of a batch that was open when the walk came past them',
  )
  clock.advance(3_600_000)
  assert.equal((await pass()).removed, 1)
  assert.deepEqual(tasks.rows, [])
})

test('a tenant that gets another time is pruned by that, from its oldest task on', async () => {
  const { times, pass, end, left } = open([{ tenant: 'thrifty', keepMs: 9 * weekMs }])
  end('thrifty', 2 * weekMs, 20)
  end('brief', 2 * dayMs, 20)
  await pass()
  assert.equal(left().length, 40)
  times.now = { ...times.now, own: [{ tenant: 'brief', keepMs: dayMs }] }
  assert.equal((await pass()).removed, 40)
})

test('a pass that the storage breaks off goes on where it was', async () => {
  const { tasks, pruner, pass, end } = open([{ tenant: 'brief', keepMs: dayMs }])
  end('brief', 2 * dayMs, 20)
  await pruner.step(10)
  assert.equal((await pruner.step(10)).removed, 10)
  tasks.isAway = true
  await assert.rejects(pruner.step(10), StoreUnavailable)
  tasks.isAway = false
  assert.equal((await pass()).removed, 10)
  assert.ok(tasks.walks.at(-1)!.from.finishedAtMs > 0)
})
