import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { compileParser, modelRoutes } from '../../../src/router/calls/completion-call.ts'

const refusals: [path: string, fields: object, says: string][] = [
  ['/completions', { max_tokens: -1 }, '`max_tokens` must be >= 0 or null; it is -1.'],
  ['/completions', { max_tokens: 'x' }, '`max_tokens` must be integer or null; it is a string.'],
  ['/completions', { model: '' }, '`model` must not have fewer than 1 characters; it is an empty string.'],
  ['/completions', { model: 7 }, '`model` must be string; it is 7.'],
  [
    '/completions',
    { service_tier: 'gold' },
    '`service_tier` must be one of auto, default, flex, priority or null; it is "gold".',
  ],
  [
    '/completions',
    { service_tier: 'x'.repeat(41) },
    '`service_tier` must be one of auto, default, flex, priority or null; it is a string.',
  ],
  [
    '/completions',
    { service_tier: 3 },
    '`service_tier` must be one of auto, default, flex, priority or null; it is 3.',
  ],
  [
    '/chat/completions',
    { messages: [] },
    '`messages` must not have fewer than 1 items; it is an empty array.',
  ],
]

for (const [path, fields, says] of refusals) {
  test(`the refusal of ${JSON.stringify(fields)} is a sentence`, () => {
    const route = modelRoutes.find((one) => one.path === path)
    assert(route)
    const body = Buffer.from(
      JSON.stringify({ model: 'm', prompt: 'x', messages: [{ role: 'user', content: 'x' }], ...fields }),
    )
    const parse = () =>
      compileParser(route)(body, { id: 'r', sessionKey: null, headers: [] }, { jsonDepthMax: 8 })
    assert.throws(parse, { message: says })
  })
}
