import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { ApiError, fail } from '../../../src/core/errors.ts'
import type { EndedAttempt } from '../../../src/queue/dispatcher.ts'
import { StoreUnavailable } from '../../../src/storage/store.ts'
import { chatBody, chatTask } from '../../helpers/task-spec.ts'
import { answerChat, chatEvent, FakeUpstream, sendJson, type Behaviour } from '../../helpers/upstream.ts'
import { startWorker, type Worker, type WorkerOptions } from '../../queue/harness.ts'
import { Counting } from './harness.ts'

/** A worker, and the book that counts what it does. */
async function startCounting(behave: Behaviour, options: WorkerOptions = {}) {
  const upstream = await FakeUpstream.start(behave)
  let note: (ended: EndedAttempt) => void = () => {}
  const onSettled = (ended: EndedAttempt) => note(ended)
  const worker = await startWorker({ upstreams: { a: upstream.url }, onSettled, ...options })
  const counting = new Counting(worker.store.usage, worker.clock)
  note = (ended) => counting.book.noteTask(ended)
  const count = async ({ whileOneRuns = false } = {}) => {
    // The store knows of an end a little before the worker does.
    if (!whileOneRuns) await worker.until('nothing runs', () => worker.dispatcher.running === 0, 0)
    await counting.book.flush()
    return counting.stored()
  }
  const dispose = async () => {
    await worker[Symbol.asyncDispose]()
    await upstream.stop()
  }
  return { worker, upstream, count, [Symbol.asyncDispose]: dispose }
}

/** 5 tokens of a prompt at 10 and 3 of an answer at 100, for a million. */
const oneCost = 0.00035

describe('the usage of tasks', () => {
  it('is counted once, for the key that submitted them, after attempts that failed', async () => {
    let failures = 2
    await using one = await startCounting((request, response, socket) =>
      failures-- > 0 ? sendJson(response, 503, {}) : answerChat()(request, response, socket),
    )
    const { worker, upstream, count } = one
    const id = await worker.submit({ keyId: 'k1' })
    await worker.reach(id, 'succeeded', 500)
    assert.equal(upstream.requests.length, 3)
    assert.deepEqual(await count(), [`t/k1/m 1 0 5 0 3 ${oneCost}`])
  })

  it('is counted once when a lease was lost, and both attempts have an answer', async () => {
    const answers: (() => void)[] = []
    await using one = await startCounting((request, response, socket) => {
      answers.push(() => answerChat()(request, response, socket))
    })
    const { worker, upstream, count } = one
    const id = await worker.submit()
    await upstream.until(({ requests }) => requests.length === 1)
    // Stopped past its lease: it renews nothing. Others rescue its task.
    worker.store.tasks.renew = () => new Promise(() => {})
    await worker.rescue.stop()
    worker.clock.advance(1_000)
    await worker.store.tasks.rescue(worker.clock.wallMs() + 60_000, 10)
    await upstream.until(({ requests }) => requests.length === 2)
    answers[0]!()
    await worker.until('the loss is counted', async () =>
      /autoglm_task_leases_lost_total 1/.test(await worker.metrics.expose()),
    )
    assert.deepEqual(await count({ whileOneRuns: true }), [], 'what it found out is void')
    answers[1]!()
    await worker.reach(id, 'succeeded', 0)
    assert.deepEqual(await count(), [`t//m 1 0 5 0 3 ${oneCost}`])
  })

  it('is counted once when the storage takes its end at the second try', async () => {
    await using one = await startCounting(answerChat())
    const { worker, count } = one
    const settle = worker.store.tasks.settle.bind(worker.store.tasks)
    let refusals = 2
    worker.store.tasks.settle = (settlements) =>
      refusals-- > 0 ? Promise.reject(new StoreUnavailable('away')) : settle(settlements)
    await worker.reach(await worker.submit(), 'succeeded')
    assert.deepEqual(await count(), [`t//m 1 0 5 0 3 ${oneCost}`])
  })

  for (const [how, cut] of [
    ['cancelled', (worker: Worker, id: string) => worker.queue.cancel('t', id)],
    ['expired', (worker: Worker) => Promise.resolve(worker.clock.advance(60_000))],
  ] as const) {
    it(`counts what was said of a task that is ${how} in the middle of its answer`, async () => {
      await using one = await startCounting((_request, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        for (const word of ['one ', 'two ', 'three ']) response.write(chatEvent(word))
      })
      const { worker, count } = one
      const task = { tenant: 't', deadlineMs: worker.clock.wallMs() + 60_000 }
      const id = await worker.submit({ ...task, keyId: 'k' })
      await worker.until('three words are there', () => worker.progress.read(id) === 3, 0)
      await cut(worker, id)
      await worker.reach(id, how)
      const [line = ''] = await count()
      assert.match(line, /^t\/k\/m 0 1 [1-9]\d* 0 3 0\.0003/)
    })
  }

  it('counts a dead task as failed, a cancelled one not at all, a sequence by all of its steps', async () => {
    await using one = await startCounting((request, response, socket) =>
      request.json['user'] === 'bad'
        ? sendJson(response, 400, { error: { message: 'no', code: 'invalid_request' } })
        : answerChat()(request, response, socket),
    )
    const { worker, count } = one
    const endpoint = '/v1/chat/completions'
    const bad = await worker.submit({
      tenant: 't',
      work: { endpoint, body: chatBody({ user: 'bad' }) },
      keyId: 'bad',
    })
    await worker.reach(bad, 'dead')
    const steps = ['a', 'b', 'c'].map((name) => ({ name, endpoint, body: chatBody() }) as const)
    const sequence = await worker.submit({ work: { endpoint: 'sequence', steps }, keyId: 'seq' })
    await worker.reach(sequence, 'succeeded')
    const later = await worker.submit({ runAtMs: worker.clock.wallMs() + 1e6 })
    await worker.queue.cancel('t', later)
    assert.deepEqual(await count(), ['t/bad/m 0 1 0 0 0 0', `t/seq/m 1 0 15 0 9 ${3 * oneCost}`])
  })
})

describe('the budget of those who submit', () => {
  it('refuses the tasks of one tenant and takes those of another, in one go', async () => {
    const spent = new Set(['poor'])
    const checkBudget = async (tenant: string) => {
      await Promise.resolve()
      if (spent.has(tenant)) throw fail('budget_exceeded', { retryAfterMs: 5_000 })
    }
    await using one = await startCounting(answerChat(), { checkBudget })
    const { worker } = one
    const ran = (await worker.queue.submit(chatTask({ tenant: 'rich' }))).task
    // Taken before, and run although the budget is spent by now.
    spent.add('rich')
    await worker.until('it has run', async () => (await worker.store.tasks.find(ran.id))?.status === 'succeeded')
    spent.delete('rich')
    const outcomes = await worker.queue.submitAll(['poor', 'rich', 'poor'].map((tenant) => chatTask({ tenant })))
    const codes = outcomes.map((outcome) => (outcome instanceof ApiError ? outcome.code : 'taken'))
    assert.deepEqual(codes, ['budget_exceeded', 'taken', 'budget_exceeded'])
    await assert.rejects(worker.queue.submit(chatTask({ tenant: 'poor' })), { code: 'budget_exceeded', retryAfterMs: 5_000 })
  }) // prettier-ignore
})
