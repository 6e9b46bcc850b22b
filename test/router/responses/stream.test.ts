import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { accumulateResponse } from 'openai/lib/responses/ResponseAccumulator'
import type { ResponseStreamEvent } from 'openai/resources/responses/responses'
import { fail } from '../../../src/core/errors.ts'
import { parseResponsesBody } from '../../../src/router/responses/request.ts'
import { toResponse, type ResponseObject } from '../../../src/router/responses/response.ts'
import { ResponseStream, toChunk, type ResponseEvent } from '../../../src/router/responses/stream.ts'
import { chatPairs } from './chat-stream.ts'

const identity = { id: 'resp_1', createdAtMs: 1_767_225_600_500 }
const completedAtMs = 1_767_225_601_500
const request = parseResponsesBody({ model: 'm', input: 'Hi' })

function translate(chunks: readonly Record<string, unknown>[], asked = request): ResponseEvent[] {
  const stream = new ResponseStream({ request: asked, identity })
  return [
    ...stream.start(),
    ...chunks.flatMap((chunk) => stream.push(chunk)),
    ...stream.finish(completedAtMs),
  ]
}

/** What the official client makes of the events in front of the last, which would say everything by itself. */
function fold(events: readonly ResponseEvent[]): { output: unknown } {
  let snapshot: Parameters<typeof accumulateResponse>[1]
  for (const [number, event] of events.entries()) {
    snapshot = accumulateResponse(
      { ...event, sequence_number: number } as unknown as ResponseStreamEvent,
      snapshot,
    )
  }
  return snapshot as unknown as { output: unknown }
}

const json = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

test('the events fold to the translation of the whole answer', () => {
  fc.assert(
    fc.property(chatPairs, ({ whole, chunks }) => {
      const expected = toResponse(request, identity, { chat: whole, completedAtMs })
      const events = translate(chunks)
      const last = events.at(-1) as { type: string; response: ResponseObject }
      assert.deepEqual(json(last.response), json(expected))
      assert.equal(last.type, `response.${expected.status}`)
      assert.deepEqual(json(fold(events.slice(0, -1)).output), json(expected.output))
    }),
    { numRuns: 1000 },
  )
})

test('a whole answer taken for one chunk is the same response', () => {
  fc.assert(
    fc.property(chatPairs, ({ whole }) => {
      const events = translate([toChunk(whole)])
      const last = events.at(-1) as unknown as { response: ResponseObject }
      assert.deepEqual(
        json(last.response),
        json(toResponse(request, identity, { chat: whole, completedAtMs })),
      )
    }),
    { numRuns: 300 },
  )
})

test('every opening has its closing, and deltas add up to what is said to be done', () => {
  fc.assert(
    fc.property(chatPairs, fc.nat(20), fc.boolean(), ({ chunks }, cutAt, breaks) => {
      const stream = new ResponseStream({ request, identity })
      const events = [...stream.start(), ...chunks.slice(0, cutAt + 1).flatMap((chunk) => stream.push(chunk))]
      events.push(...(breaks ? stream.fail(fail('upstream_failed')) : stream.finish(completedAtMs)))
      const texts = new Map<string, string>()
      const open: string[] = []
      for (const event of events) {
        const part = `${String(event['item_id'])}/${String(event['content_index'])}`
        if (event.type === 'response.output_item.added') open.push(`item ${String(event['output_index'])}`)
        if (event.type === 'response.output_item.done') take(open, `item ${String(event['output_index'])}`)
        if (event.type === 'response.content_part.added') open.push(part)
        if (event.type === 'response.content_part.done') take(open, part)
        if (event.type.endsWith('.delta')) texts.set(part, (texts.get(part) ?? '') + String(event['delta']))
        const whole = event['text'] ?? event['arguments'] ?? event['refusal']
        if (event.type.endsWith('.done') && typeof whole === 'string')
          assert.equal(texts.get(part) ?? '', whole)
      }
      assert.deepEqual(open, [])
      const last = events.at(-1) as unknown as { type: string; response: ResponseObject }
      assert.equal(last.response.status, breaks ? 'failed' : last.response.status)
      assert.deepEqual(json(fold(events.slice(0, -1)).output), json(last.response.output))
    }),
    { numRuns: 500 },
  )
})

function take(open: string[], name: string): void {
  assert.ok(open.includes(name), `${name} was not open`)
  open.splice(open.indexOf(name), 1)
}

const delta = (fields: object, finish: string | null = null) => ({
  choices: [{ delta: fields, finish_reason: finish }],
})

test('the events of a short answer, in their order', () => {
  const types = translate([delta({ content: 'Hi' }), delta({}, 'stop')]).map(({ type }) => type)
  assert.deepEqual(types, [
    'response.created',
    'response.in_progress',
    'response.output_item.added',
    'response.content_part.added',
    'response.output_text.delta',
    'response.output_text.done',
    'response.content_part.done',
    'response.output_item.done',
    'response.completed',
  ])
})

test('odd instances: calls without an id, with the same one, all at one place, text behind a call', () => {
  const start = (fields: object) => delta({ tool_calls: [{ index: 0, ...fields }] })
  const cases: { chunks: Record<string, unknown>[]; output: [string, string][] }[] = [
    {
      chunks: [start({ function: { name: 'f', arguments: '{}' } })],
      output: [['call_1_1', '{}']],
    },
    {
      chunks: [
        start({ id: 'a', function: { name: 'f', arguments: '1' } }),
        start({ id: 'b', function: { name: 'f', arguments: '2' } }),
      ],
      output: [
        ['a', '1'],
        ['b', '2'],
      ],
    },
    {
      chunks: [
        delta({ tool_calls: [{ index: 0, id: 'a', function: { name: 'f', arguments: '1' } }, { index: 1, id: 'a', function: { name: 'g', arguments: '2' } }] }),
      ],
      output: [
        ['a', '1'],
        ['call_1_2', '2'],
      ],
    },
  ] // prettier-ignore
  for (const { chunks, output } of cases) {
    const events = translate(chunks)
    const folded = fold(events).output as { call_id: string; arguments: string }[]
    assert.deepEqual(
      folded.map((item) => [item.call_id, item.arguments]),
      output,
    )
  }
  const mixed = translate([
    delta({ content: 'a' }),
    start({ id: 'x', function: { name: 'f' } }),
    delta({ content: 'b' }),
  ])
  const items = fold(mixed).output as { type: string; content?: { text: string }[] }[]
  assert.deepEqual(
    items.map(({ type, content }) => content?.[0]?.text ?? type),
    ['a', 'function_call', 'b'],
  )
})

test('log probabilities come with the text, when they are asked for', () => {
  const logprob = (token: string) => ({ token, bytes: [1], logprob: -1, top_logprobs: [] })
  const asked = parseResponsesBody({ model: 'm', input: 'Hi', include: ['message.output_text.logprobs'] })
  const chunks = ['a', 'b'].map((token) => ({
    choices: [{ delta: { content: token }, logprobs: { content: [logprob(token)] } }],
  }))
  const [message] = fold(translate(chunks, asked)).output as { content: { logprobs?: unknown[] }[] }[]
  assert.deepEqual(message?.content[0]?.logprobs, [logprob('a'), logprob('b')])
  const [plain] = fold(translate(chunks)).output as { content: { logprobs?: unknown[] }[] }[]
  assert.equal(plain?.content[0]?.logprobs?.length ?? 0, 0)
})

test('an error in mid-stream is thrown, and what is no chat completion is not taken for one', () => {
  const stream = new ResponseStream({ request, identity })
  stream.push(delta({ content: 'a' }))
  assert.throws(() => stream.push({ error: { message: 'out of\nmemory' } }), {
    code: 'upstream_failed',
    message: /out of memory/,
  })
  assert.throws(() => new ResponseStream({ request, identity }).finish(completedAtMs), {
    code: 'upstream_invalid',
  })
  for (const chat of [{}, { choices: [] }, { choices: [{}] }, { choices: 'x' }]) {
    assert.throws(() => toResponse(request, identity, { chat, completedAtMs }), { code: 'upstream_invalid' })
  }
})
