import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { defuse, splitByNames } from '../../engine/template.ts'
import { parseTools, ToolCallReader } from '../../engine/tools.ts'
import { depthOf } from '../../engine/body.ts'

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
