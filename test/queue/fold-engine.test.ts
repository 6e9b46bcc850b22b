import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { startEngine } from '../helpers/engine.ts'
import type { CallWork, TaskEndpoint } from '../../src/queue/task.ts'
import { readJson, startWorker } from './harness.ts'

type Answer = Record<string, unknown>

/** What differs between any two answers. */
const strip = ({ id: _id, created: _created, ...rest }: Answer): Answer => {
  const { usage } = rest as { usage?: { prompt_tokens_details?: object } }
  // The second call finds the prompt of the first in the cache.
  if (usage) delete usage.prompt_tokens_details
  const text = JSON.stringify(rest, (key, value: unknown) => {
    if (key === 'id') return 'call'
    // The same prompt, computed in another batch, differs in the last digits.
    return typeof value === 'number' ? Math.round(value * 100) / 100 : value
  })
  return JSON.parse(text) as Answer
}

const tool = {
  type: 'function',
  function: { name: 'look', parameters: { type: 'object', properties: { at: { type: 'string', maxLength: 5 } }, required: ['at'], additionalProperties: false }, strict: true },
} // prettier-ignore

const messages = [{ role: 'user', content: 'Tell me a story.' }]
const bodies: [TaskEndpoint, object][] = [
  ['/v1/chat/completions', { messages, max_tokens: 12 }],
  ['/v1/chat/completions', { messages, max_tokens: 6, n: 2, logprobs: true, top_logprobs: 2 }],
  ['/v1/chat/completions', { messages, max_tokens: 60, tools: [tool], tool_choice: 'required' }],
  ['/v1/completions', { prompt: 'Once upon', max_tokens: 12, stop: [' the'] }],
  ['/v1/completions', { prompt: 'Once upon', max_tokens: 4, logprobs: 2, echo: true }],
  ['/v1/completions', { prompt: ['Once', 'A dog'], max_tokens: 4, n: 2 }],
]

test('the result of a task is, field by field, what the engine answers without a stream', async () => {
  const engine = await startEngine()
  try {
    await using worker = await startWorker({ upstreams: { a: `${engine.url}/v1` }, models: ['tiny'] })
    for (const [endpoint, fields] of bodies) {
      const body = { model: 'tiny', temperature: 0, seed: 1, ...fields }
      const response = await fetch(engine.url + endpoint, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
      const whole = (await response.json()) as Answer
      assert.equal(response.status, 200, JSON.stringify(whole))
      const work: CallWork = { endpoint, body }
      const id = await worker.submit({ work })
      const { result } = await worker.reach(id, 'succeeded', 0)
      assert.deepEqual(strip(readJson(result)), strip(whole), JSON.stringify(fields))
    }
  } finally {
    await engine.stop()
  }
})
