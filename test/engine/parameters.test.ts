import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { checkParameters, parameters } from '../../engine/parameters.ts'
import { ApiError } from '../../src/core/errors.ts'

/** The parameters of OpenAI's API description, by route. */
const known = {
  completions:
    'best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty prompt seed stop stream stream_options suffix temperature top_p user',
  chat: 'audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options',
}

for (const route of ['completions', 'chat'] as const) {
  test(`every parameter of OpenAI's ${route} route is in the table`, () => {
    const missing = known[route].split(' ').filter((name) => !parameters[name]?.routes.includes(route))
    assert.deepEqual(missing, [])
  })

  test(`what the table of ${route} refuses is refused by name`, () => {
    for (const [name, rule] of Object.entries(parameters)) {
      if (rule.effect !== 'refused' || !rule.routes.includes(route)) continue
      assert.throws(
        () => checkParameters(route, { [name]: { some: 'value' } }),
        refusal('unsupported_parameter', name),
      )
      checkParameters(route, { [name]: null })
    }
  })
}

test('a name that is not in the table is refused, those of every object included', () => {
  for (const name of ['top_a', 'constructor', '__proto__', 'toString']) {
    const body = JSON.parse(`{"${name}": 1}`) as Record<string, unknown>
    assert.throws(() => checkParameters('chat', body), refusal('unsupported_parameter', name))
  }
  assert.throws(() => checkParameters('chat', { echo: true }), refusal('unsupported_parameter', 'echo'))
})

const wrong: [string, unknown, RegExp][] = [
  ['temperature', 2.1, /`temperature` is 2.1; it must be a number from 0 to 2/],
  ['temperature', '1', /must be a number/],
  ['top_p', -0.1, /from 0 to 1/],
  ['top_k', 1.5, /whole number/],
  ['min_p', 2, /from 0 to 1/],
  ['presence_penalty', 3, /from -2 to 2/],
  ['frequency_penalty', -3, /from -2 to 2/],
  ['n', 0, /from 1 to 128/],
  ['max_tokens', -1, /whole number from 0/],
  ['max_tokens', 1e300, /whole number/],
  ['max_completion_tokens', -1, /`max_completion_tokens` is -1; it must be a whole number from 0/],
  ['seed', 0.5, /whole number/],
  ['stop', [''], /1 to 1000 characters/],
  ['stop', Array.from({ length: 17 }, () => 'a'), /up to 16/],
  ['stop', 7, /must be a text/],
  ['logit_bias', { a: 1 }, /token id/],
  ['logit_bias', { 5: 101 }, /from -100 to 100/],
  ['logit_bias', [1], /must be an object/],
  ['stream', 'yes', /true or false/],
  ['stream_options', { include_usage: 1 }, /true or false/],
  ['model', 7, /must be a text/],
]
for (const [name, value, message] of wrong) {
  test(`${name} = ${JSON.stringify(value)?.slice(0, 40)} is refused`, () => {
    assert.throws(
      () => checkParameters('completions', { [name]: value }),
      (error) =>
        error instanceof ApiError &&
        error.code === 'invalid_request' &&
        message.test(error.message) &&
        (error.param as string).startsWith(name),
    )
  })
}

test('chat generates one token at least, and names the field that says otherwise', () => {
  for (const name of ['max_tokens', 'max_completion_tokens']) {
    assert.throws(() => checkParameters('chat', { [name]: 0 }), refusal('invalid_request', name))
    checkParameters('completions', { [name]: 0 })
    checkParameters('chat', { [name]: 1 })
  }
})

test('values that ask for nothing pass', () => {
  checkParameters('completions', { best_of: 3, n: 3, suffix: '', user: 'me', seed: -5, stop: ['a', 'b'] })
  checkParameters('chat', { store: false, modalities: ['text'], functions: [], metadata: { a: 'b' } })
})

function refusal(code: string, param: string) {
  return (error: unknown) => error instanceof ApiError && error.code === code && error.param === param
}
