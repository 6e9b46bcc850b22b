import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { ApiError } from '../../src/core/errors.ts'
import { resolveReferences } from '../../src/queue/references.ts'
import { answerChat, FakeUpstream, sendJson, wholeChat } from '../helpers/upstream.ts'
import { readJson, startWorker } from './harness.ts'

const step = (name: string, content: unknown, more: object = {}) => ({
  name,
  endpoint: '/v1/chat/completions' as const,
  body: { model: 'm', messages: [{ role: 'user', content }], ...more },
})
const sequence = (...steps: ReturnType<typeof step>[]) => ({ work: { endpoint: 'sequence' as const, steps } })
const said = (request: { json: Record<string, unknown> }) =>
  (request.json['messages'] as { content: unknown }[])[0]!.content

test('references become text inside of text, and keep their type alone', () => {
  const results = new Map<string, unknown>([
    ['a', { list: [{ text: 'x' }], n: 3, no: null, yes: true, deep: { k: 1 } }],
  ])
  const resolve = (body: unknown, charsMax = 1000) => resolveReferences(body, results, { charsMax })
  assert.deepEqual(resolve({ t: 'say {{steps.a.list[0].text}} {{ steps.a.n }} {{steps.a.deep}}' }), {
    t: 'say x 3 {"k":1}',
  })
  assert.deepEqual(resolve(['{{steps.a.n}}', { k: '{{steps.a.yes}}' }, '{{steps.a.no}}']), [
    3,
    { k: true },
    null,
  ])
  assert.equal(resolve('{{other}} {{steps'), '{{other}} {{steps')
  for (const bad of [
    '{{steps.a.list[1].text}}',
    'x {{steps.a.no}}',
    '{{steps.a.list.length}}',
    '{{steps.a.constructor}}',
    '{{steps.a.n.x}}',
    '{{steps.a.deep[0]}}',
    '{{steps.z}}x',
  ]) {
    assert.throws(
      () => resolve(bad),
      (error: unknown) => error instanceof ApiError && error.code === 'invalid_request',
      bad,
    )
  }
  assert.throws(() => resolve('{{steps.a.list}}'.repeat(100), 500), /longer than 500/)
})

test('steps run in order, each with what came before, and all results are kept', async () => {
  await using upstream = await FakeUpstream.start((request, response, socket) =>
    answerChat([`<${String(said(request))}>`])(request, response, socket),
  )
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit(
    sequence(
      step('one', 'x'),
      step('two', 'again {{steps.one.choices[0].message.content}}'),
      step('three', '{{steps.two.choices[0].message.content}} {{steps.one.id}}'),
    ),
  )
  const { result, task, steps } = await worker.reach(id, 'succeeded', 0)
  const whole = readJson(result) as {
    object: string
    steps: { name: string; result: { choices: { message: { content: string } }[] } }[]
  }
  assert.equal(whole.object, 'sequence')
  assert.deepEqual(
    whole.steps.map(({ name, result: one }) => [name, one.choices[0]!.message.content]),
    [['one', '<x>'], ['two', '<again <x>>'], ['three', '<<again <x>> c>']],
  ) // prettier-ignore
  assert.deepEqual(task.usage, { promptTokens: 15, completionTokens: 9, cachedTokens: 0 })
  assert(steps.length === 0 || steps.length === 3)
})

test('what an instance miscounts beyond all measure is no part of the sum', async () => {
  const counts = [Number.MAX_SAFE_INTEGER, 7, 1e9 + 1, -1, 2.5, '3']
  await using upstream = await FakeUpstream.start((_request, response) =>
    sendJson(response, 200, { ...wholeChat('x'), usage: { prompt_tokens: counts.shift(), completion_tokens: 1 } }),
  )
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const steps = counts.map((_, index) => step(`s${index}`, 'x'))
  const { task } = await worker.reach(await worker.submit(sequence(...steps)), 'succeeded', 0)
  assert.deepEqual(task.usage, { promptTokens: 7, completionTokens: 6, cachedTokens: 0 })
}) // prettier-ignore

test('after a failure only what is left runs again', async () => {
  const failing = new Set(['second'])
  await using upstream = await FakeUpstream.start((request, response, socket) =>
    failing.delete(String(said(request)))
      ? sendJson(response, 500, {})
      : answerChat()(request, response, socket),
  )
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const id = await worker.submit(
    sequence(step('one', 'first'), step('two', 'second'), step('three', 'third')),
  )
  const { task } = await worker.reach(id, 'succeeded', 100)
  assert.equal(task.attempt, 2)
  assert.deepEqual(upstream.requests.map(said), ['first', 'second', 'second', 'third'])
  assert.deepEqual(task.usage, { promptTokens: 15, completionTokens: 9, cachedTokens: 0 })
})

test('after its worker has died in the middle, another goes on behind the last finished step', async () => {
  const seen: unknown[] = []
  await using upstream = await FakeUpstream.start((request, response, socket) => {
    seen.push(said(request))
    if (seen.length !== 2) return answerChat()(request, response, socket)
    return undefined
  })
  await using worker = await startWorker({ upstreams: { a: upstream.url }, settings: { leaseMs: 3_000 } })
  const id = await worker.submit(sequence(step('one', 'first'), step('two', 'second')))
  await upstream.until(({ requests }) => requests.length === 2)
  await worker.store.tasks.rescue(worker.clock.wallMs() + 60_000, 10)
  const { task } = await worker.reach(id, 'succeeded', 100)
  assert.equal(task.attempt, 2)
  assert.deepEqual(seen, ['first', 'second', 'second'])
})

test('a step that its references make impossible ends the task with its name in the error', async () => {
  await using upstream = await FakeUpstream.start((_request, response) =>
    sendJson(response, 200, wholeChat('no number')),
  )
  await using worker = await startWorker({ upstreams: { a: upstream.url } })
  const typed = await worker.submit(
    sequence(step('one', 'x'), step('two', 'y', { max_tokens: '{{steps.one.choices[0].message.content}}' })),
  )
  const lost = await worker.submit(
    sequence(step('one', 'x'), step('two', '{{steps.one.choices[4].message}}')),
  )
  const first = await worker.reach(typed, 'dead', 0)
  assert.match(first.task.error!.message, /^Step two: `max_tokens` must be/)
  const second = await worker.reach(lost, 'dead', 0)
  assert.match(
    second.task.error!.message,
    /^Step two: \{\{steps.one.choices\[4\].message\}\} can't be replaced/,
  )
  assert.equal(second.task.attempt, 1)
})
