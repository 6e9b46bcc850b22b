import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { ApiError } from '../../src/core/errors.ts'
import { isFoldable, StreamFold } from '../../src/queue/fold-stream.ts'
import { doneEvent } from '../helpers/upstream.ts'

type Choice = Record<string, unknown>
const usage = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 }
const event = (choices: readonly Choice[], more: object = {}) =>
  `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', created: 7, model: 'm', system_fingerprint: 'f', choices, ...more })}\n\n`

function fold(events: readonly string[], path = '/chat/completions'): Record<string, unknown> {
  const folded = new StreamFold(path)
  for (const text of events) folded.push(Buffer.from(text))
  return folded.finish()
}

const delta = (index: number, fields: object, reason: string | null = null, more: object = {}) => ({
  index,
  delta: fields,
  finish_reason: reason,
  ...more,
})

test('texts of several choices, in whatever order their pieces come', () => {
  const texts = fc.array(fc.array(fc.string({ unit: 'binary' }), { maxLength: 6 }), {
    minLength: 1,
    maxLength: 4,
  })
  fc.assert(
    fc.property(texts, fc.infiniteStream(fc.nat()), (choices, draws) => {
      const left = choices.map((pieces) => [...pieces])
      const events = choices.map((_, index) => event([delta(index, { role: 'assistant', content: '' })]))
      while (left.some((pieces) => pieces.length > 0)) {
        const open = left.flatMap((pieces, index) => (pieces.length > 0 ? [index] : []))
        const index = open[(draws.next().value as number) % open.length]!
        events.push(event([delta(index, { content: left[index]!.shift() })]))
      }
      choices.forEach((_, index) => events.push(event([delta(index, {}, 'stop')])))
      events.push(event([], { usage }), doneEvent)
      assert.deepEqual(fold(events), {
        ...{ id: 'c', object: 'chat.completion', created: 7, model: 'm', system_fingerprint: 'f', usage },
        choices: choices.map((pieces, index) => ({
          index,
          message: { role: 'assistant', content: pieces.join('') },
          logprobs: null,
          finish_reason: 'stop',
        })),
      })
    }),
  )
})

test('calls of tools: names and ids once, arguments piece by piece, and no text where there is none', () => {
  const call = (index: number, fields: object) => event([delta(0, { tool_calls: [{ index, ...fields }] })])
  const whole = fold([
    event([delta(0, { role: 'assistant', content: null, refusal: null })]),
    call(0, { id: 'x', type: 'function', function: { name: 'f', arguments: '' } }),
    call(0, { function: { arguments: '{"a"' } }),
    call(1, { id: 'y', type: 'function', function: { name: 'g', arguments: '{' } }),
    call(0, { function: { name: 'f', arguments: ':1}' } }),
    call(1, { function: { arguments: '}' } }),
    event([delta(0, {}, 'tool_calls')]),
    doneEvent,
  ])
  assert.deepEqual((whole['choices'] as Choice[])[0]!['message'], {
    role: 'assistant',
    content: null,
    refusal: null,
    tool_calls: [
      { id: 'x', type: 'function', function: { name: 'f', arguments: '{"a":1}' } },
      { id: 'y', type: 'function', function: { name: 'g', arguments: '{}' } },
    ],
  })
})

test('logprobs and thoughts are put together; a text completion is one', () => {
  const item = (token: string) => ({ token, logprob: -1, bytes: [1], top_logprobs: [] })
  const whole = fold([
    event([delta(0, { role: 'assistant', reasoning_content: 'hm', content: null })]),
    event([delta(0, { reasoning_content: 'm' })]),
    event([delta(0, { content: 'a' }, null, { logprobs: { content: [item('a')], refusal: null } })]),
    event([delta(0, { content: 'b' }, null, { logprobs: { content: [item('b')], refusal: null } })]),
    event([delta(0, {}, 'length', { logprobs: null })]),
  ])
  assert.deepEqual(whole['choices'], [
    {
      index: 0,
      message: { role: 'assistant', reasoning_content: 'hmm', content: 'ab' },
      logprobs: { content: [item('a'), item('b')], refusal: null },
      finish_reason: 'length',
    },
  ])
  const text = fold(
    [
      event([{ index: 0, text: 'a', finish_reason: null }]),
      event([{ index: 0, text: 'b', finish_reason: 'stop' }]),
    ],
    '/completions',
  )
  assert.equal(text['object'], 'text_completion')
  assert.deepEqual(text['choices'], [{ index: 0, text: 'ab', logprobs: null, finish_reason: 'stop' }])
})

test('errors inside of a stream, rubbish and endless choices are failures', () => {
  const fails = (code: string, ...events: string[]) =>
    assert.throws(
      () => fold(events),
      (error: unknown) => error instanceof ApiError && error.code === code,
    )
  fails('upstream_failed', event([delta(0, { content: 'a' })]), 'data: {"error":{"message":"boom"}}\n\n')
  fails('upstream_invalid', 'data: {"half\n\n')
  fails('upstream_invalid', 'data: 7\n\n')
  fails('upstream_invalid', doneEvent)
  fails('upstream_invalid', ...Array.from({ length: 200 }, (_, index) => event([delta(index, {})])))
})

test('only what can be put together exactly is asked for as a stream', () => {
  const body = { model: 'm', messages: [] }
  assert.equal(isFoldable('/chat/completions', { ...body, n: 2, tools: [], logprobs: true }), true)
  assert.equal(isFoldable('/chat/completions', { ...body, audio: {} }), false)
  assert.equal(isFoldable('/embeddings', { model: 'm', input: 'x' }), false)
  assert.equal(isFoldable('/completions', { model: 'm', prompt: 'x' }), true)
  assert.equal(isFoldable('/completions', { model: 'm', prompt: [1, 2, 3] }), true)
  assert.equal(isFoldable('/completions', { model: 'm', prompt: ['x', 'y'] }), false)
  assert.equal(isFoldable('/completions', { model: 'm', prompt: 'x', logprobs: 2 }), false)
  assert.equal(isFoldable('/completions', { model: 'm', prompt: 'x', echo: true }), false)
})
