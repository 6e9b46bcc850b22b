import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { ApiError } from '../../../src/core/errors.ts'
import { toChatBody } from '../../../src/router/responses/chat-body.ts'
import { parseResponsesBody } from '../../../src/router/responses/request.ts'

const ask = (more: object = {}) => ({ model: 'm', input: 'Hi', ...more })
const user = (...content: object[]) => ask({ input: [{ role: 'user', content }] })
const tool = { type: 'function', name: 'f', parameters: { type: 'object' }, strict: true }

const refusals: { body: object; code: string; param: string; message?: RegExp }[] = [
  { body: {}, code: 'invalid_request', param: 'model', message: /missing/ },
  { body: { model: 'm' }, code: 'invalid_request', param: 'input', message: /missing/ },
  { body: ask({ model: 7 }), code: 'invalid_request', param: 'model', message: /string; it is 7/ },
  { body: ask({ input: 7 }), code: 'invalid_request', param: 'input' },
  { body: ask({ input: [] }), code: 'invalid_request', param: 'input', message: /previous_response_id/ },
  { body: ask({ input: [7] }), code: 'invalid_request', param: 'input[0]' },
  { body: ask({ input: [{ text: 'x' }] }), code: 'invalid_request', param: 'input[0].type' },
  { body: ask({ input: [{ role: 'tool', content: 'x' }] }), code: 'invalid_request', param: 'input[0].role', message: /developer; it is "tool"/ },
  { body: ask({ input: [{ role: 'user' }] }), code: 'invalid_request', param: 'input[0].content' },
  { body: user({ type: 'text', text: 'x' }), code: 'invalid_request', param: 'input[0].content[0].type', message: /input_text/ },
  { body: user({ type: 'input_text' }), code: 'invalid_request', param: 'input[0].content[0].text' },
  { body: user({ type: 'input_image', file_id: 'file-1' }), code: 'unsupported_parameter', param: 'input[0].content[0].file_id' },
  { body: user({ type: 'input_image', image_url: 'x', detail: 'much' }), code: 'invalid_request', param: 'input[0].content[0].detail' },
  { body: user({ type: 'input_file', file_url: 'http://x' }), code: 'unsupported_parameter', param: 'input[0].content[0].file_url' },
  { body: ask({ input: [{ type: 'function_call', name: 'f', arguments: '{}' }] }), code: 'invalid_request', param: 'input[0].call_id' },
  { body: ask({ input: [{ type: 'function_call_output', call_id: 'c', output: [{ type: 'input_image', image_url: 'x' }] }] }), code: 'unsupported_parameter', param: 'input[0].output[0].type' },
  { body: ask({ input: [{ type: 'item_reference', id: 'msg_1' }] }), code: 'unsupported_parameter', param: 'input[0].type', message: /previous_response_id/ },
  { body: ask({ input: [{ type: 'web_search_call', id: 'x' }] }), code: 'unsupported_parameter', param: 'input[0].type' },
  { body: ask({ input: [{ type: 'reasoning', summary: [], encrypted_content: 'x' }] }), code: 'unsupported_parameter', param: 'input[0].encrypted_content' },
  { body: ask({ input: [{ role: 'user', content: 'x', phase: 'commentary' }] }), code: 'unsupported_parameter', param: 'input[0].phase' },
  { body: ask({ tools: [{ type: 'web_search' }] }), code: 'unsupported_parameter', param: 'tools[0].type', message: /"web_search"/ },
  { body: ask({ tools: [tool, { type: 'file_search', vector_store_ids: [] }] }), code: 'unsupported_parameter', param: 'tools[1].type' },
  { body: ask({ tools: [{ type: 'computer_use_preview' }] }), code: 'unsupported_parameter', param: 'tools[0].type' },
  { body: ask({ tools: [{ type: 'custom', name: 'x' }] }), code: 'unsupported_parameter', param: 'tools[0].type' },
  { body: ask({ tools: [{ ...tool, defer_loading: true }] }), code: 'unsupported_parameter', param: 'tools[0].defer_loading' },
  { body: ask({ tools: [{ ...tool, name: 'no spaces' }] }), code: 'invalid_request', param: 'tools[0].name' },
  { body: ask({ tools: [tool, tool] }), code: 'invalid_request', param: 'tools[1].name', message: /taken/ },
  { body: ask({ tools: [{ ...tool, function: {} }] }), code: 'unsupported_parameter', param: 'tools[0].function' },
  { body: ask({ tools: [tool], tool_choice: 'any' }), code: 'invalid_request', param: 'tool_choice' },
  { body: ask({ tools: [tool], tool_choice: { type: 'function', name: 'g' } }), code: 'invalid_request', param: 'tool_choice.name' },
  { body: ask({ tools: [tool], tool_choice: { type: 'mcp', server_label: 'x' } }), code: 'unsupported_parameter', param: 'tool_choice.type' },
  { body: ask({ include: ['reasoning.encrypted_content'] }), code: 'unsupported_parameter', param: 'include[0]' },
  { body: ask({ include: ['message.output_text.logprobs', 'file_search_call.results'] }), code: 'unsupported_parameter', param: 'include[1]' },
  { body: ask({ truncation: 'auto' }), code: 'unsupported_parameter', param: 'truncation' },
  { body: ask({ service_tier: 'scale' }), code: 'invalid_request', param: 'service_tier' },
  { body: ask({ conversation: 'conv_1' }), code: 'unsupported_parameter', param: 'conversation', message: /previous_response_id/ },
  { body: ask({ prompt: { id: 'pmpt_1' } }), code: 'unsupported_parameter', param: 'prompt' },
  { body: ask({ messages: [] }), code: 'unsupported_parameter', param: 'messages', message: /`input`/ },
  { body: ask({ max_tokens: 5 }), code: 'unsupported_parameter', param: 'max_tokens', message: /max_output_tokens/ },
  { body: ask({ n: 2 }), code: 'unsupported_parameter', param: 'n' },
  { body: ask({ whatever: 1 }), code: 'unsupported_parameter', param: 'whatever' },
  { body: ask({ constructor: 1 }), code: 'unsupported_parameter', param: 'constructor' },
  { body: ask({ reasoning: { summary: 'auto' } }), code: 'unsupported_parameter', param: 'reasoning.summary' },
  { body: ask({ text: { verbosity: 'low' } }), code: 'unsupported_parameter', param: 'text.verbosity' },
  { body: ask({ text: { format: { type: 'xml' } } }), code: 'invalid_request', param: 'text.format.type' },
  { body: ask({ text: { format: { type: 'json_schema', name: 'a b', schema: {} } } }), code: 'invalid_request', param: 'text.format.name' },
  { body: ask({ text: { format: { type: 'json_schema', name: 'a' } } }), code: 'invalid_request', param: 'text.format.schema' },
  { body: ask({ stream_options: { include_obfuscation: true } }), code: 'unsupported_parameter', param: 'stream_options.include_obfuscation' },
  { body: ask({ background: true, store: false }), code: 'invalid_request', param: 'store' },
  { body: ask({ temperature: 3 }), code: 'invalid_request', param: 'temperature' },
  { body: ask({ max_output_tokens: 0 }), code: 'invalid_request', param: 'max_output_tokens' },
  { body: ask({ metadata: { a: 1 } }), code: 'invalid_request', param: 'metadata.a' },
  { body: ask({ metadata: { ['k'.repeat(65)]: 'x' } }), code: 'invalid_request', param: 'metadata' },
  { body: ask({ stream: 'yes' }), code: 'invalid_request', param: 'stream' },
] // prettier-ignore

test('what cannot be honoured is refused by its name', () => {
  for (const { body, code, param, message } of refusals) {
    assert.throws(
      () => parseResponsesBody(body as Record<string, unknown>),
      (error: unknown) => {
        assert.ok(error instanceof ApiError, String(error))
        assert.deepEqual([error.code, error.param], [code, param], JSON.stringify(body))
        assert.match(error.message, message ?? /./)
        return true
      },
    )
  }
})

test('no body makes the reader fail in another way', () => {
  const known = ['model', 'input', 'tools', 'tool_choice', 'text', 'reasoning', 'include', 'metadata', 'truncation', 'stream_options', 'background'] // prettier-ignore
  const part = fc.record({ type: fc.constantFrom('input_text', 'output_text', 'input_image', 'x'), text: fc.jsonValue(), image_url: fc.jsonValue() }, { requiredKeys: [] }) // prettier-ignore
  const item = fc.record({ type: fc.constantFrom('message', 'function_call', 'function_call_output', 'reasoning', 'x'), role: fc.constantFrom('user', 'assistant', 'x'), content: fc.oneof(fc.array(part), fc.jsonValue()), call_id: fc.jsonValue(), output: fc.jsonValue(), name: fc.string(), arguments: fc.string() }, { requiredKeys: [] }) // prettier-ignore
  const body = fc.record(Object.fromEntries(known.map((name) => [name, fc.jsonValue()])), {
    requiredKeys: [],
  })
  fc.assert(
    fc.property(body, fc.oneof(fc.array(item), fc.string()), fc.boolean(), (fields, input, isPlain) => {
      try {
        const request = parseResponsesBody(isPlain ? ask({ input }) : { ...fields, model: 'm', input })
        toChatBody(request, [], { stream: false })
      } catch (error) {
        assert.ok(error instanceof ApiError, String(error))
        assert.ok(error.param !== null)
        assert.ok(error.status < 500)
      }
    }),
    { numRuns: 1500 },
  )
})

const call = { type: 'function_call', call_id: 'c1', name: 'f', arguments: '{"a":1}' }
const translations: { name: string; body: object; chat: object }[] = [
  { name: 'a text', body: ask(), chat: { messages: [{ role: 'user', content: 'Hi' }] } },
  {
    name: 'instructions and a developer: one system message',
    body: ask({
      instructions: 'Be short.',
      input: [
        { role: 'developer', content: 'In French.' },
        { role: 'user', content: 'Hi' },
      ],
    }),
    chat: {
      messages: [
        { role: 'system', content: 'Be short.\n\nIn French.' },
        { role: 'user', content: 'Hi' },
      ],
    },
  },
  {
    name: 'a system message in the middle stays there',
    body: ask({
      input: [
        { role: 'user', content: 'Hi' },
        { role: 'system', content: 'Now shout.' },
      ],
    }),
    chat: {
      messages: [
        { role: 'user', content: 'Hi' },
        { role: 'system', content: 'Now shout.' },
      ],
    },
  },
  {
    name: 'images and files',
    body: user(
      { type: 'input_text', text: 'What?' },
      { type: 'input_image', image_url: 'data:x', detail: 'low' },
      { type: 'input_file', filename: 'a.pdf', file_data: 'data:y' },
    ),
    chat: {
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'What?' },
            { type: 'image_url', image_url: { url: 'data:x', detail: 'low' } },
            { type: 'file', file: { filename: 'a.pdf', file_data: 'data:y' } },
          ],
        },
      ],
    },
  },
  {
    name: 'a round of tools, with what was thought left out',
    body: ask({
      tools: [tool],
      tool_choice: { type: 'function', name: 'f' },
      parallel_tool_calls: false,
      input: [
        { role: 'user', content: 'Hi' },
        { type: 'reasoning', id: 'rs_1', summary: [], content: [{ type: 'reasoning_text', text: 'Hm.' }] },
        { type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'Well' }] },
        call,
        { ...call, call_id: 'c2', parsed_arguments: null },
        { type: 'function_call_output', call_id: 'c2', output: [{ type: 'input_text', text: 'two' }] },
        { type: 'function_call_output', call_id: 'c1', output: 'one' },
      ],
    }),
    chat: {
      messages: [
        { role: 'user', content: 'Hi' },
        {
          role: 'assistant',
          content: 'Well',
          tool_calls: [
            { id: 'c1', type: 'function', function: { name: 'f', arguments: '{"a":1}' } },
            { id: 'c2', type: 'function', function: { name: 'f', arguments: '{"a":1}' } },
          ],
        },
        { role: 'tool', tool_call_id: 'c2', content: 'two' },
        { role: 'tool', tool_call_id: 'c1', content: 'one' },
      ],
      tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'object' }, strict: true } }],
      tool_choice: { type: 'function', function: { name: 'f' } },
      parallel_tool_calls: false,
    },
  },
  {
    name: 'allowed tools: the others are not sent',
    body: ask({
      tools: [tool, { ...tool, name: 'g', strict: null }],
      tool_choice: { type: 'allowed_tools', mode: 'required', tools: [{ type: 'function', name: 'g' }] },
    }),
    chat: {
      messages: [{ role: 'user', content: 'Hi' }],
      tools: [{ type: 'function', function: { name: 'g', parameters: { type: 'object' } } }],
      tool_choice: 'required',
    },
  },
  {
    name: 'settings',
    body: ask({
      max_output_tokens: 9,
      temperature: 0,
      top_p: 0.5,
      top_logprobs: 2,
      seed: 7,
      user: 'u',
      reasoning: { effort: 'low' },
      metadata: { a: 'b' },
      text: { format: { type: 'json_schema', name: 's', schema: { type: 'object' }, strict: true } },
    }),
    chat: {
      messages: [{ role: 'user', content: 'Hi' }],
      max_tokens: 9,
      temperature: 0,
      top_p: 0.5,
      logprobs: true,
      top_logprobs: 2,
      seed: 7,
      user: 'u',
      reasoning_effort: 'low',
      response_format: {
        type: 'json_schema',
        json_schema: { name: 's', schema: { type: 'object' }, strict: true },
      },
    },
  },
  {
    name: 'JSON of any shape, and null for nothing',
    body: ask({ text: { format: { type: 'json_object' } }, tools: null, temperature: null, prompt: null }),
    chat: { messages: [{ role: 'user', content: 'Hi' }], response_format: { type: 'json_object' } },
  },
]

for (const { name, body, chat } of translations) {
  test(`as a chat completion: ${name}`, () => {
    const request = parseResponsesBody(body as Record<string, unknown>)
    assert.deepEqual(toChatBody(request, [], { stream: false }), { model: 'm', ...chat })
    assert.deepEqual(toChatBody(request, [], { stream: true }), {
      ...{ model: 'm', ...chat },
      stream: true,
      stream_options: { include_usage: true },
    })
  })
}

test('the output of a call must belong to a call, of this request or of an earlier one', () => {
  const request = parseResponsesBody(
    ask({ input: [{ type: 'function_call_output', call_id: 'c1', output: 'x' }] }),
  )
  assert.throws(() => toChatBody(request, [], { stream: false }), { code: 'invalid_request', param: 'input' })
  const context = parseResponsesBody(ask({ input: [{ role: 'user', content: 'Hi' }, call] })).input
  const { messages } = toChatBody(request, context, { stream: false }) as { messages: { role: string }[] }
  assert.deepEqual(
    messages.map(({ role }) => role),
    ['user', 'assistant', 'tool'],
  )
})
