import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { askUsage, parseBody, replaceModel } from '../../../src/router/calls/body.ts'

const rename = (text: string, model = 'new') => replaceModel(Buffer.from(text), model).toString()

test('replaceModel changes the bytes of the outermost model and no others', () => {
  assert.equal(rename('{"model":"a"}'), '{"model":"new"}')
  assert.equal(
    rename(' { "x":[{"model":"a"}], "model" : "a" , "y":1.0}'),
    ' { "x":[{"model":"a"}], "model" : "new" , "y":1.0}',
  )
  assert.equal(
    rename('{"p":"\\"model\\":\\"a\\"","model":"a\\"b"}'),
    '{"p":"\\"model\\":\\"a\\"","model":"new"}',
  )
  assert.equal(rename('{"a":"model","model":"b"}'), '{"a":"model","model":"new"}')
  assert.equal(rename('{"model":"a"}', 'q"\\é'), '{"model":"q\\"\\\\é"}')
})

test('a model key in disguise, or given twice, is replaced all the same', () => {
  for (const text of ['{"mod\\u0065l":"a","n":1}', '{"model":"a","model":"b"}']) {
    assert.equal((JSON.parse(rename(text)) as { model: string }).model, 'new')
  }
})

test('for any JSON object, replaceModel equals parsing, setting and printing', () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.jsonValue()),
      fc.string(),
      fc.nat({ max: 4 }),
      (fields, model, indent) => {
        const text = JSON.stringify({ ...fields, model: 'old' }, null, indent)
        assert.deepEqual(JSON.parse(rename(text, model)), { ...(JSON.parse(text) as object), model })
      },
    ),
  )
})

test('askUsage asks for the usage, whatever the caller wrote', () => {
  for (const text of [
    ' {"model":"m","stream":true}',
    '{"stream_options":null,"model":"m"}',
    '{"stream_options":{"include_usage":false,"x":1},"model":"m"}',
  ]) {
    const body = Buffer.from(text)
    const asked = JSON.parse(askUsage(body, parseBody(body, 10)).toString()) as Record<string, unknown>
    assert.equal((asked['stream_options'] as { include_usage: boolean }).include_usage, true)
    assert.equal(asked['model'], 'm')
  }
})

test('parseBody never repeats what the caller sent', () => {
  assert.throws(
    () => parseBody(Buffer.from('{"secret-word"'), 10),
    (error: Error) => !error.message.includes('secret'),
  )
})

test('parseBody counts depth exactly', () => {
  const nested = (levels: number) => Buffer.from(`{"a":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`)
  parseBody(nested(10), 10)
  assert.throws(() => parseBody(nested(11), 10), /deeper than 10/)
})
