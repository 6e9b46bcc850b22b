import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { samePressMs } from '../../src/cli/stop-signals.ts'
import { systemClock } from '../../src/core/clock.ts'
import { eventually } from '../helpers/server.ts'
import { FakeUpstream, type Behaviour } from '../helpers/upstream.ts'
import { answer, instanceAt, markOf, TaskBench } from './task-process.ts'

/** Answers when it is told to, each call by its mark. */
class Gate {
  readonly #open = new Map<string, PromiseWithResolvers<void>>()

  readonly behave: Behaviour = async (request, response, socket) => {
    await this.#of(markOf(request)).promise
    return answer(request, response, socket)
  }

  open(mark: string): void {
    this.#of(mark).resolve()
  }

  #of(mark: string): PromiseWithResolvers<void> {
    const gate = this.#open.get(mark) ?? Promise.withResolvers<void>()
    this.#open.set(mark, gate)
    return gate
  }
}

const marks = Array.from({ length: 8 }, (_, n) => `task-${n}`)
const early = marks.slice(0, 4)
const late = marks.slice(4)

/** Given back, and no attempt is used up: the number of the next is another, and there is one more of them. */
const released = ['queued 0', 'running 1', 'queued 1', 'running 2', 'succeeded 2']

describe('the end of a server with tasks that run', () => {
  it('lets them end for a while at SIGTERM, and gives the rest back at no cost', async () => {
    await using bench = await TaskBench.open()
    const gate = new Gate()
    await using model = await FakeUpstream.start(bench.counting(gate.behave))
    const config = { upstreams: instanceAt(model.url), server: { drainTimeoutMs: 1_500 } }
    const first = await bench.start(config)
    // One attempt is all they have.
    for (const mark of marks) await bench.submitOne(first, mark, { max_attempts: 1 })
    await eventually('all of them run', () => model.active === marks.length)
    first.child.kill('SIGTERM')
    await first.hears('stdout', /have up to/)
    for (const mark of early) gate.open(mark)
    assert.deepEqual(await first.exit, { code: 0, signal: null })
    assert.match(first.stdout, /stopped\n$/)
    assert.doesNotMatch(first.stderr, /left behind/)
    assert.equal(model.abandoned, late.length, 'the calls of those given back were not cut')

    model.behave = bench.counting(answer)
    const second = await bench.start(config)
    await bench.finish(second)
    for (const mark of marks) {
      const id = bench.ids.get(mark)!
      const story = await bench.story(second, id)
      if (early.includes(mark)) assert.deepEqual(story, ['queued 0', 'running 1', 'succeeded 1'])
      else assert.deepEqual(story, released)
      assert.equal((await bench.get(second, id)).error, null)
    }
    assert.equal((await bench.check()).duplicates, late.length)
  })

  it('gives all of them back at once at the second SIGTERM', async () => {
    await using bench = await TaskBench.open()
    await using model = await FakeUpstream.start(bench.counting(() => {}))
    const config = { upstreams: instanceAt(model.url), server: { drainTimeoutMs: 60_000 } }
    const first = await bench.start(config)
    for (const mark of marks) await bench.submitOne(first, mark, { max_attempts: 1 })
    await eventually('all of them run', () => model.active === marks.length)
    first.child.kill('SIGTERM')
    await first.hears('stdout', /have up to/)
    // Sooner, it would be the same press of a key.
    await systemClock.sleep(samePressMs + 100)
    first.child.kill('SIGTERM')
    assert.deepEqual(await first.exit, { code: 143, signal: null })

    model.behave = bench.counting(answer)
    const second = await bench.start(config)
    await bench.finish(second)
    for (const mark of marks) assert.deepEqual(await bench.story(second, bench.ids.get(mark)!), released)
    assert.equal((await bench.check()).duplicates, marks.length)
  })

  it('loses no task to itself when it stands still for two leases', async () => {
    await using bench = await TaskBench.open()
    const gate = new Gate()
    await using model = await FakeUpstream.start(bench.counting(gate.behave))
    const leaseMs = 1_000
    const server = await bench.start({ upstreams: instanceAt(model.url), queue: { leaseMs } })
    for (const mark of marks) await bench.submitOne(server, mark)
    await eventually('all of them run', () => model.active === marks.length)
    server.child.kill('SIGSTOP')
    for (const mark of early) gate.open(mark)
    // There is nothing to wait for but the time itself: the server is frozen, and its clock goes on.
    await systemClock.sleep(leaseMs * 2.5)
    server.child.kill('SIGCONT')
    await eventually('it sees that it stood still', () => server.stderr.includes('stood still'))
    for (const mark of late) gate.open(mark)
    await bench.finish(server)
    for (const mark of marks) {
      assert.deepEqual(await bench.story(server, bench.ids.get(mark)!), [
        'queued 0',
        'running 1',
        'succeeded 1',
      ])
    }
    assert.doesNotMatch(server.stderr, /lease lost/)
    assert.equal((await bench.check()).duplicates, 0)
  })
})
