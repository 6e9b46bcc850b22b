import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { defuse, splitByNames } from '../../engine/template.ts'
import { parseTools, ToolCallReader } from '../../engine/tools.ts'
import { depthOf } from '../../engine/body.ts'
import { writeOfferGrammar } from '../../engine/tool-grammar.ts'
import { ApiError } from '../../src/core/errors.ts'
import { accepts } from './gbnf.ts'

const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object' } } }]

function read(choice: unknown, pieces: string[]) {
  const reader = new ToolCallReader(parseTools(tools, choice))
  const text = pieces.map((piece) => reader.push(piece)).join('')
  const rest = reader.finish()
  return {
    text: text + rest.text,
    calls: rest.calls.map(({ function: made }) => [made.name, made.arguments]),
  }
}

const city = {
  type: 'object',
  properties: { city: { enum: ['Rome', 'Oslo'] } },
  required: ['city'],
  additionalProperties: false,
}

test('a strict function that may be called is kept to its schema, and text stays free', () => {
  const offered = [
    { type: 'function', function: { name: 'weather', parameters: city, strict: true } },
    { type: 'function', function: { name: 'log', parameters: { type: 'string', pattern: 'x' } } },
  ]
  const grammar = writeOfferGrammar(parseTools(offered, 'auto').tools)
  const rome = '{"name":"weather","arguments":{"city":"Rome"}}'
  const right = [
    ...['', 'It is <b>warm</b> {here}.', '\nSure. <tool', '<<tool_call', `${rome}\n`],
    `Let me see. <<tool_call>\n${rome}\n</tool_call>`,
    `<tool_call>${rome}</tool_call><tool_call>{"name": "log", "arguments": {"a":1}}</tool_call>`,
  ]
  const wrong = [
    ...['{"name":"weather","arguments":{"city":"Bonn"}}', '{"name":"weather","arguments":{}}', ' {"a":1}'],
    ...['{"name":"other","arguments":{}}', '{"name":"log","arguments":7}', `<tool_call>${rome.slice(0, -9)}`],
    'Text. <tool_call>{"name":"weather","arguments":{"city":7}}</tool_call>',
    '<tool_call>and text',
  ]
  for (const text of right) assert.ok(accepts(grammar, text), text)
  for (const text of wrong) assert.ok(!accepts(grammar, text), text)
})

test('fields of tools that nobody knows are refused by name', () => {
  const made = { name: 'weather', parameters: city }
  const cases: [unknown, unknown, string][] = [
    [{ type: 'function', function: made, colour: 1 }, 'auto', 'tools[0].colour'],
    [{ type: 'function', function: { ...made, returns: {} } }, 'none', 'tools[0].function.returns'],
    [{ type: 'function', function: { ...made, strict: 'yes' } }, 'auto', 'tools[0].function.strict'],
    [{ type: 'function', function: { ...made, description: 7 } }, 'auto', 'tools[0].function.description'],
    [
      { type: 'function', function: made },
      { type: 'function', function: { name: 'weather', x: 1 } },
      'tool_choice.function.x',
    ],
    [
      { type: 'function', function: made },
      { type: 'function', function: { name: 'weather' }, x: 1 },
      'tool_choice.x',
    ],
  ]
  for (const [tool, choice, param] of cases) {
    assert.throws(
      () => parseTools([tool], choice),
      (error) => error instanceof ApiError && error.status === 400 && error.param === param,
    )
  }
})

test('text without a call passes at once', () => {
  const reader = new ToolCallReader(parseTools(tools, 'auto'))
  assert.equal(reader.push('It is warm.'), 'It is warm.')
})

test('a call in tags is taken out of the text, wherever the pieces are cut', () => {
  const pieces = [
    'Let me see. <to',
    'ol_call>{"name": "weather", "argu',
    'ments": {"city": "Rome"}}</tool_',
    'call>',
  ]
  assert.deepEqual(read('auto', pieces), { text: 'Let me see. ', calls: [['weather', '{"city":"Rome"}']] })
})

test('a reply that is a call as bare JSON is a call', () => {
  assert.deepEqual(read('auto', ['{"name":"weather",', '"parameters":{}}']), {
    text: '',
    calls: [['weather', '{}']],
  })
})

test('JSON that is no call is text', () => {
  assert.deepEqual(read('auto', ['{"name":', '"other"}']), { text: '{"name":"other"}', calls: [] })
})

test('a forced call that was cut keeps what there is of its arguments', () => {
  assert.deepEqual(read('required', ['{"name":"weather","arguments":{"ci']), {
    text: '',
    calls: [['weather', '{"ci']],
  })
})

test('names of control tokens in what callers write are marked, in keys and values', () => {
  const { value, marked } = defuse({ 'a<|end|>': ['x', '<|end|><|end|>'] }, ['<|end|>'], '#')
  assert.deepEqual(value, { 'a<#|end|>': ['x', '<#|end|><#|end|>'] })
  assert.equal(marked, true)
  assert.equal(defuse('plain', ['<|end|>'], '#').marked, false)
})

test('a text is cut at the names of tokens, the longer first', () => {
  assert.deepEqual(splitByNames('a<s><s>>b', ['<s>', '<s>>']), ['a', '<s>', '<s>>', 'b'])
})

test('nesting is counted outside of texts only', () => {
  assert.equal(depthOf(Buffer.from(String.raw`{"a":["[[[\"[["]}`)), 2)
  assert.equal(depthOf(Buffer.from('[[[')), 3)
})
