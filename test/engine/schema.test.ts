import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { literal, writeGrammar } from '../../engine/schema.ts'
import { ApiError } from '../../src/core/errors.ts'

function refusal(schema: unknown): ApiError {
  try {
    writeGrammar(schema, 'response_format')
  } catch (error) {
    if (error instanceof ApiError) return error
    throw error
  }
  throw new Error('the schema was accepted')
}

const unsupported: [string, unknown][] = [
  ['pattern', { type: 'string', pattern: '^a' }],
  ['minimum', { type: 'integer', minimum: 3 }],
  ['multipleOf', { type: 'number', multipleOf: 2 }],
  ['uniqueItems', { type: 'array', uniqueItems: true }],
  ['allOf', { allOf: [{ type: 'string' }] }],
  ['not', { not: { type: 'string' } }],
  ['patternProperties', { type: 'object', patternProperties: {} }],
  ['format', { type: 'string', format: 'email' }],
  ['pattern', { type: 'object', properties: { a: { type: 'string', pattern: 'b' } } }],
]
for (const [keyword, schema] of unsupported) {
  test(`${JSON.stringify(schema)} is refused by its keyword`, () => {
    const error = refusal(schema)
    assert.equal(error.code, 'unsupported_parameter')
    assert.match(error.message, new RegExp(keyword))
  })
}

const wrong: [RegExp, unknown][] = [
  [/leads back to itself/, { $ref: '#' }],
  [
    /leads back/,
    { $defs: { a: { anyOf: [{ $ref: '#/$defs/a' }, { type: 'null' }] } }, anyOf: [{ $ref: '#/$defs/a' }] },
  ],
  [/nothing is there/, { $ref: '#/$defs/none' }],
  [/only references within/, { $ref: 'https://example.org/a' }],
  [/not a type/, { type: 'text' }],
  [/less than minItems/, { type: 'array', minItems: 3, maxItems: 2 }],
  [/0 to 1000/, { type: 'string', maxLength: 1e6 }],
  [
    /which properties lacks/,
    { type: 'object', properties: {}, required: ['a'], additionalProperties: false },
  ],
  [/must be a schema/, { type: 'array', items: 7 }],
]
for (const [message, schema] of wrong) {
  test(`${JSON.stringify(schema)} is refused with its reason`, () => {
    assert.match(refusal(schema).message, message)
  })
}

test('a schema that refers to itself below a character is a grammar', () => {
  const grammar = writeGrammar(
    {
      type: 'object',
      properties: { next: { anyOf: [{ $ref: '#' }, { type: 'null' }] } },
      required: ['next'],
    },
    'response_format',
  )
  assert.match(grammar, /^root ::= /)
})

test('literals hold what JSON and the grammar both escape', () => {
  assert.equal(literal('a"b\\c\n'), String.raw`"\"a\\\"b\\\\c\\n\""`)
})
