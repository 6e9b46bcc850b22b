import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { literal } from '../../engine/gbnf.ts'
import { writeGrammar } from '../../engine/schema.ts'
import { ApiError } from '../../src/core/errors.ts'
import { accepts } from './gbnf.ts'

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
  ['pattern', { const: 'a', pattern: 'b' }],
  ['format', { enum: ['a'], format: 'date' }],
  ['properties', { const: {}, properties: {} }],
  ['oneOf', { anyOf: [{ type: 'string' }], oneOf: [{ type: 'string' }] }],
  ['maxLength', { anyOf: [{ type: 'string' }], maxLength: 3 }],
  ['properties', { type: 'object', anyOf: [{ type: 'object' }], properties: { a: {} } }],
  ['type', { $defs: { a: {} }, type: 'string', anyOf: [{ $ref: '#/$defs/a' }] }],
  ['minLength', { $defs: { a: {} }, $ref: '#/$defs/a', minLength: 3 }],
  ['maxLength', { type: 'string', format: 'date', maxLength: 3 }],
  ['minLength', { type: 'string', format: 'time', minLength: 12 }],
  ['format', { type: 'integer', format: 'int32' }],
  ['strict', { type: 'string', strict: true }],
  ['\\$id', { type: 'array', items: { $id: 'a', type: 'string' } }],
  ['oneOf', { oneOf: [{ type: 'string' }, { const: 'a' }] }],
  ['oneOf', { oneOf: [{ type: 'number' }, { type: 'integer' }] }],
  ['oneOf', { oneOf: [{ type: 'string' }, { properties: { a: {} } }] }],
  [
    'oneOf',
    {
      oneOf: [
        { properties: { a: { const: 1 } }, type: 'object' },
        { type: 'object', required: ['a'] },
      ],
    },
  ],
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
  [/`response_format.minLength` forbids "ab"/, { const: 'ab', minLength: 3 }],
  [/`response_format.type` forbids "a"/, { enum: ['a', 'b'], type: 'integer' }],
  [/`response_format.enum` forbids 1/, { const: 1, enum: [2, 3] }],
  [/`response_format.type` is one that no schema of anyOf/, { type: 'null', anyOf: [{ type: 'string' }] }],
  [/`response_format.maximum` is "3"/, { const: 1, maximum: '3' }],
  [/`response_format.required` is \[1\]/, { type: 'object', required: [1] }],
  [/not a type/, { type: 7 }],
  [/empty list/, { type: [] }],
  [/not a type/, { const: 'a', type: 'text' }],
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

const discriminated = {
  oneOf: ['a', 'b'].map((kind) => ({
    type: 'object',
    properties: { kind: { const: kind }, [kind]: { type: 'integer' } },
    required: ['kind'],
    additionalProperties: false,
  })),
}
const open = {
  type: 'object',
  properties: { a: { type: 'null' }, 'b-]': { type: 'null' }, ab: { type: 'null' } },
  required: ['a'],
  additionalProperties: { type: 'boolean' },
}
const texts: [schema: object, right: string[], wrong: string[]][] = [
  [{ enum: ['a', 'bcd', 7, null], type: ['string', 'null'], minLength: 2 }, ['"bcd"', 'null'], ['"a"', '7']],
  [{ enum: [1, 5, 2.5, 8], type: 'integer', minimum: 2, exclusiveMaximum: 8 }, ['5'], ['1', '2.5', '8']],
  [{ enum: [[1], [1, 2], {}], maxItems: 1, required: ['a'] }, ['[1]'], ['[1,2]', '{}']],
  [{ const: { a: 1, b: [2] }, enum: [{ b: [2], a: 1 }] }, ['{"a":1,"b":[2]}'], ['{"b":[2],"a":1}']],
  [{ type: ['string', 'null'], anyOf: [{ minLength: 2 }, { type: 'integer' }, true] }, ['"ab"', 'null'], ['7']],
  [{ type: 'string', format: 'date', maxLength: 10 }, ['"2024-04-30"'], ['"2024-04-31"', '"2024-02-30"']],
  [{ type: 'string', minLength: 2 }, ['"ab"', '"\\u0041b"'], ['"a"', '"\\ud83d\\ude00"']],
  [{ type: ['integer', 'null'], maxLength: 3 }, ['7', 'null'], ['"a"']],
  [{ type: 'object', required: [] }, ['{}', '{"a":1}'], ['[]']],
  [{ type: 'object', properties: { a: {} }, required: ['b'] }, ['{"b":1}', '{"b":1,"a":2}'], ['{"a":1}']],
  [{ oneOf: [{ type: 'string' }, { type: ['integer', 'null'] }, { const: true }] }, ['"x"', '7', 'true'], ['false']],
  [{ oneOf: [{ enum: ['a', 'b'] }, { const: 'c' }, { type: 'string', minLength: 2 }] }, ['"c"', '"dd"'], ['"d"']],
  [discriminated, ['{"kind":"a","a":1}', '{"kind":"b"}'], ['{"kind":"a","b":1}', '{"kind":"c"}']],
  [
    open,
    ['{"a":null}', '{"a":null,"ab":null,"x":true}', '{"a":null,"aa":true,"b":true,"abc":true,"":true,"b-":true}'],
    ['{"a":null,"a":true}', '{"a":null,"ab":true}', '{"a":null,"b-]":true}', '{"a":null,"\\u0061":true}'],
  ],
] // prettier-ignore
for (const [schema, right, wrong] of texts) {
  test(`the grammar of ${JSON.stringify(schema)} keeps to all of it`, () => {
    const grammar = writeGrammar(schema, 'response_format')
    for (const text of right) assert.ok(accepts(grammar, text), text)
    for (const text of wrong) assert.ok(!accepts(grammar, text), text)
  })
}

test('each repetition has a rule to itself, and equal ones share it', () => {
  const text = { type: 'string', maxLength: 900 }
  const grammar = writeGrammar({ type: 'object', properties: { a: text, b: text } }, 'p')
  assert.equal(grammar.split('{0,900}').length, 2)
  assert.match(grammar, /^\S+ ::= "\\"" char\{0,900\} "\\""$/m)
})

test('annotations change nothing', () => {
  const remarks = {
    title: 't', description: 'd', default: 'x', examples: ['x'], deprecated: true, readOnly: true, writeOnly: true,
    $schema: 's', $id: 'i', $comment: 'c', $defs: {}, definitions: {},
  } // prettier-ignore
  for (const base of [{ type: 'string' }, { const: 'a' }, { anyOf: [{ type: 'null' }] }]) {
    assert.equal(writeGrammar({ ...base, ...remarks }, 'p'), writeGrammar(base, 'p'))
  }
})

test('a comparison that would take too long is given up, not begun', () => {
  const branches = Array.from({ length: 1900 }, (_, i) => ({ const: i }))
  assert.match(refusal({ oneOf: branches }).message, /oneOf/)
  const values = Array.from({ length: 50_000 }, (_, i) => i)
  assert.match(refusal({ oneOf: [{ enum: values }, { enum: values }] }).message, /oneOf/)
})

test('literals hold what JSON and the grammar both escape', () => {
  assert.equal(literal('a"b\\c\n'), String.raw`"\"a\\\"b\\\\c\\n\""`)
})

test('a grammar grows with its schema and not with its depth', () => {
  const nest = (levels: number): unknown =>
    levels === 0 ? { type: 'null' } : { type: 'array', items: nest(levels - 1) }
  const length = (levels: number) => JSON.stringify(writeGrammar(nest(levels), 'response_format')).length
  assert.ok(length(40) < 2.5 * length(20), `${length(20)} and ${length(40)} characters`)
})
