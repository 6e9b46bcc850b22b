import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { fail } from '../../../src/core/errors.ts'
import { eventually } from '../../helpers/server.ts'
import { BatchBench, lineOf, succeed, type Behaviour } from './batch-bench.ts'

const failing: Behaviour = (task, body) =>
  body['n'] === 5
    ? { kind: 'dead', error: { code: 'context_length_exceeded', message: 'Too long.' } }
    : succeed(task, body)

const unknownModel = { body: { model: 'nobody', messages: [{ role: 'user', content: 'Hi' }] } }

void test('each line goes to one of two files, in order, and harms no other', async () => {
  await using bench = await BatchBench.open()
  const lines = [
    lineOf(1),
    '{"custom_id": broken',
    lineOf(3),
    '',
    lineOf(5),
    lineOf(6, { custom_id: 'line-1' }),
    lineOf(7, unknownModel),
    lineOf(8, { body: { model: 'm' } }),
    lineOf(9, { url: '/v1/embeddings' }),
    lineOf(10),
  ]
  const id = await bench.create('t', lines.join('\r\n'))
  await bench.drive('t', id, bench.runner({ piece: { lines: 3, bytes: 1000 } }), failing)
  const { output, errors } = await bench.results('t', id)

  assert.deepEqual(
    output.map(({ custom_id, response }) => [custom_id, response?.status_code, response?.body]),
    [
      ['line-1', 200, { echo: 1 }],
      ['line-3', 200, { echo: 3 }],
      ['line-10', 200, { echo: 10 }],
    ],
  )
  assert.ok(output.every(({ error }) => error === null))
  assert.deepEqual(
    errors.map(({ custom_id, error }) => [error?.line, custom_id, error?.code]),
    [
      [2, null, 'invalid_json_line'],
      [5, 'line-5', 'context_length_exceeded'],
      [6, 'line-1', 'duplicate_custom_id'],
      [7, 'line-7', 'model_not_found'],
      [8, 'line-8', 'invalid_request'],
      [9, 'line-9', 'invalid_url'],
    ],
  )
  assert.equal(errors[1]?.response?.status_code, 400)
  assert.equal(errors[4]?.error?.param, 'body.messages')

  const { batch, counts } = await bench.batches().get('t', id)
  assert.equal(batch.status, 'completed')
  assert.deepEqual(counts, { total: 9, completed: 3, failed: 6 })
  assert.deepEqual(batch.usage, { promptTokens: 6, completionTokens: 3, cachedTokens: 0 })
  assert.deepEqual(
    batch.errors.map(({ line }) => line),
    [2, 6, 9],
  )
  assert.deepEqual([batch.lease, batch.scraps], [null, []])
  assert.deepEqual(bench.blobIds().length, 3, 'the input and two files of results')
})

void test('a batch without one good line fails as a whole', async () => {
  await using bench = await BatchBench.open()
  const cases: [string, string][] = [
    ['', 'empty_file'],
    ['\n\r\n  \n', 'empty_file'],
    ['{}\nnull\n', 'no_usable_line'],
    [Array.from({ length: 21 }, (_, n) => lineOf(n)).join('\n'), 'too_many_lines'],
  ]
  for (const [content, code] of cases) {
    const id = await bench.create('t', content)
    await bench.drive('t', id, bench.runner({ linesMax: 20 }))
    const { batch } = await bench.batches().get('t', id)
    assert.deepEqual([batch.status, batch.errors[0]?.code], ['failed', code])
    assert.equal(batch.results, null)
  }
  assert.equal(bench.blobIds().length, 3, 'the inputs that are not empty')
})

void test('exactly as many lines as are allowed are taken', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', Array.from({ length: 20 }, (_, n) => lineOf(n)).join('\n') + '\n\n')
  await bench.drive('t', id, bench.runner({ linesMax: 20 }))
  const { batch, counts } = await bench.batches().get('t', id)
  assert.deepEqual([batch.status, counts], ['completed', { total: 20, completed: 20, failed: 0 }])
  assert.equal(batch.results?.errors.lines, 0)
})

void test('no more tasks of a batch live at once than are allowed, up to a piece', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', Array.from({ length: 40 }, (_, n) => lineOf(n)).join('\n'))
  const runner = bench.runner({ liveTasksMax: 10, piece: { lines: 4, bytes: 10_000 } })
  const seen: number[] = []
  for (let turn = 0; turn < 100 && seen.at(-1) !== 0; turn += 1) {
    await runner.look()
    const { queued, running } = await bench.store.tasks.count('t', id)
    seen.push(queued + running)
    await bench.work(succeed, 5)
  }
  const most = Math.max(...seen)
  assert.ok(most >= 10 && most < 10 + 4, String(seen))
})

void test('a full queue is waited for, and nothing is lost', async () => {
  await using bench = await BatchBench.open()
  bench.queueSettings = { ...bench.queueSettings, tenantTasksMax: 7 }
  const id = await bench.create('t', Array.from({ length: 30 }, (_, n) => lineOf(n)).join('\n'))
  await bench.drive('t', id, bench.runner({ piece: { lines: 10, bytes: 100_000 } }))
  const { output, errors } = await bench.results('t', id)
  assert.deepEqual([output.length, errors.length], [30, 0])
  assert.equal((await bench.store.tasks.count('t', id)).succeeded, 30)
})

void test('a batch waits while the budget is spent, goes on when it is not, and expires where that lasts', async () => {
  await using bench = await BatchBench.open()
  const lines = Array.from({ length: 5 }, (_, n) => lineOf(n)).join('\n')
  const id = await bench.create('t', lines)
  const isSpent = () => {
    throw fail('budget_exceeded', { retryAfterMs: 20 * 86_400_000 })
  }
  bench.checkBudget = isSpent
  const runner = bench.runner()
  for (let turn = 0; turn < 5; turn += 1) {
    await runner.look()
    bench.clock.advance(30_000)
  }
  assert.equal((await bench.batches().get('t', id)).batch.status, 'in_progress')
  assert.equal((await bench.store.tasks.count('t', id)).queued, 0)
  bench.checkBudget = () => {}
  await bench.drive('t', id, runner)
  const { output, errors } = await bench.results('t', id)
  assert.deepEqual([output.length, errors.length], [5, 0])

  bench.checkBudget = isSpent
  const short = await bench.create('t', lines, 60_000)
  for (let turn = 0; turn < 5; turn += 1) {
    await runner.look()
    bench.clock.advance(30_000)
  }
  await bench.drive('t', short, runner)
  assert.equal((await bench.batches().get('t', short)).batch.status, 'expired')
})

void test('a batch that waits goes on in time although the clock is set back meanwhile', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', lineOf(1))
  bench.checkBudget = () => {
    throw fail('budget_exceeded')
  }
  const runner = bench.runner()
  await runner.look()
  bench.checkBudget = () => {}
  bench.clock.wallOffsetMs -= 86_400_000
  bench.clock.advance(30_000)
  await runner.look()
  assert.equal((await bench.store.tasks.count('t', id)).queued, 1)
})

void test('a cancelled batch keeps what is done and names what is not', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', Array.from({ length: 10 }, (_, n) => lineOf(n)).join('\n'))
  const runner = bench.runner({ liveTasksMax: 6, piece: { lines: 2, bytes: 100_000 } })
  await runner.look()
  await bench.work(succeed, 3)
  assert.equal((await bench.batches().cancel('t', id)).batch.status, 'cancelling')
  await bench.drive('t', id, runner)
  const { output, errors } = await bench.results('t', id)
  assert.deepEqual([output.length, errors.length], [3, 7])
  assert.deepEqual(new Set(errors.map(({ error }) => error?.code)), new Set(['batch_cancelled']))
  const { batch, counts } = await bench.batches().get('t', id)
  assert.equal(batch.status, 'cancelled')
  assert.ok(batch.atMs.cancelling !== undefined && batch.atMs.cancelled !== undefined)
  assert.deepEqual(counts, { total: 10, completed: 3, failed: 7 })
  await assert.rejects(bench.batches().cancel('t', id), { code: 'conflict' })
})

void test('a batch cancelled before its input was read ends without files', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', lineOf(1))
  await bench.batches().cancel('t', id)
  await bench.drive('t', id, bench.runner())
  const { batch } = await bench.batches().get('t', id)
  assert.deepEqual(
    [batch.status, batch.results?.output.lines, batch.results?.errors.lines],
    ['cancelled', 0, 0],
  )
})

void test('what is not done when the window is over has expired', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', Array.from({ length: 10 }, (_, n) => lineOf(n)).join('\n'), 60_000)
  const runner = bench.runner({ liveTasksMax: 6, piece: { lines: 2, bytes: 100_000 } })
  await runner.look()
  await bench.work(succeed, 2)
  bench.clock.advance(60_000)
  await bench.store.tasks.expire(bench.clock.wallMs(), 1)
  await bench.drive('t', id, runner)
  const { output, errors } = await bench.results('t', id)
  assert.deepEqual([output.length, errors.length], [2, 8])
  assert.deepEqual(new Set(errors.map(({ error }) => error?.code)), new Set(['batch_expired']))
  assert.equal((await bench.batches().get('t', id)).batch.status, 'expired')
})

void test('a batch whose last line ended just before its time is completed', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', lineOf(1), 60_000)
  const runner = bench.runner()
  await runner.look()
  await bench.work()
  bench.clock.advance(61_000)
  await bench.drive('t', id, runner)
  assert.equal((await bench.batches().get('t', id)).batch.status, 'completed')
})

void test('an input that is removed on the way costs the lines that were not read', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', Array.from({ length: 10 }, (_, n) => lineOf(n)).join('\n'))
  const runner = bench.runner({ liveTasksMax: 4, piece: { lines: 2, bytes: 100_000 } })
  await runner.look()
  await bench.files().remove('t', (await bench.batches().get('t', id)).batch.inputFileId)
  await bench.drive('t', id, runner)
  const { output, errors } = await bench.results('t', id)
  assert.deepEqual([output.length, errors.length], [4, 6])
  assert.ok(errors.every(({ error, custom_id }) => error?.code === 'input_file_missing' && custom_id))
})

void test('a model that is not known yet is waited for while instances are silent, and not for ever', async () => {
  await using bench = await BatchBench.open()
  bench.served.clear()
  bench.knowsModels = false
  const runner = bench.runner()
  const first = await bench.create('t', lineOf(1))
  await runner.look()
  assert.equal((await bench.batches().get('t', first)).counts.failed, 0)
  bench.served.add('m')
  bench.clock.advance(30_000)
  await bench.drive('t', first, runner)
  assert.deepEqual((await bench.results('t', first)).output.length, 1)

  bench.served.clear()
  const second = await bench.create('t', lineOf(1))
  await runner.look()
  bench.clock.advance(31_000)
  await bench.drive('t', second, runner)
  assert.equal((await bench.results('t', second)).errors[0]?.error?.code, 'model_not_found')
})

void test('answers with line breaks, and texts of every kind, stay one line each', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', `${lineOf(1)}\n${lineOf(2, { custom_id: '\u2028"\\😀\n' })}`)
  const pretty: Behaviour = (_task, body) => ({
    kind: 'succeeded',
    result: Buffer.from(
      JSON.stringify({ text: 'a\nb\r\u2029é', n: body['n'] }, null, 2).replaceAll('\n', '\r\n'),
    ),
    usage: null,
  })
  await bench.drive('t', id, bench.runner(), pretty)
  const { output } = await bench.results('t', id)
  assert.deepEqual(
    output.map(({ custom_id }) => custom_id),
    ['line-1', '\u2028"\\😀\n'],
  )
  assert.deepEqual(
    output.map(({ response }) => response?.body['text']),
    ['a\nb\r\u2029é', 'a\nb\r\u2029é'],
  )
})

void test('two runners share the batches, and one goes on with those of the other', async () => {
  await using bench = await BatchBench.open()
  const options = { liveTasksMax: 4, piece: { lines: 2, bytes: 100_000 } }
  const ids = []
  for (let n = 0; n < 6; n += 1) {
    ids.push(await bench.create('t', Array.from({ length: 9 }, (_, line) => lineOf(line)).join('\n')))
  }
  const [one, two] = [bench.runner(options), bench.runner(options)]
  for (let turn = 0; turn < 4; turn += 1) {
    await Promise.all([one.look(), two.look()])
    await bench.work()
  }
  // The first falls silent; the other takes over once its leases are over.
  bench.clock.advance(31_000)
  for (const id of ids) await bench.drive('t', id, two)
  for (const id of ids) {
    const { output, errors } = await bench.results('t', id)
    assert.deepEqual([output.length, errors.length], [9, 0])
    assert.deepEqual(
      output.map(({ custom_id }) => custom_id),
      Array.from({ length: 9 }, (_, line) => `line-${line}`),
    )
  }
})

void test('a lease is honoured while it runs, and given back at a stop', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', lineOf(1))
  const [one, two] = [bench.runner(), bench.runner()]
  await one.look()
  await bench.work()
  await two.look()
  assert.equal((await bench.batches().get('t', id)).batch.status, 'in_progress')
  await one.stop()
  await two.look()
  assert.equal((await bench.batches().get('t', id)).batch.status, 'completed')
})

void test('a process that starts on an embedded store goes on at once with what another one held', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', lineOf(1))
  await bench.runner().look()
  await bench.work()
  const next = bench.runner()
  await next.start()
  try {
    await eventually('the batch is over', async () => {
      return (await bench.batches().get('t', id)).batch.status === 'completed'
    })
  } finally {
    await next.stop()
    await next.stop()
  }
})

void test('a lease from a clock that was set back does not hold up a batch', async () => {
  await using bench = await BatchBench.open()
  bench.clock.wallOffsetMs += 3_600_000
  const id = await bench.create('t', lineOf(1))
  await bench.runner().look()
  await bench.work()
  bench.clock.wallOffsetMs -= 3_600_000
  await bench.runner().look()
  assert.equal((await bench.batches().get('t', id)).batch.status, 'completed')
})

void test('a runner that is told of an ended task looks without waiting for its next poll', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', lineOf(1))
  const runner = bench.runner({ gatherMs: 100, pollMs: 3_600_000 })
  await runner.start()
  try {
    await eventually('the line is a task', async () => (await bench.store.tasks.count('t', id)).queued === 1)
    await bench.work()
    await eventually('the batch is over', async () => {
      bench.clock.advance(100)
      return (await bench.batches().get('t', id)).batch.status === 'completed'
    })
  } finally {
    await runner.stop()
  }
})
