import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { judgeStart } from '../../src/router/failure.ts'

const judge = (text: string) => judgeStart(Buffer.from(text), 'application/json')?.code ?? 'an answer'

test('an answer is told from an error by its first key, however it is written', () => {
  const answers = [
    '{"id":"x"}',
    '{ "object": "chat.completion", "choices": [] }',
    '{"error":null,"id":"x"}',
    '{"error": null, "id": "x"}',
    '\n{\n  "error" :\n null,\n  "id": "x"\n}',
    '{"errors":[],"id":"x"}',
    `${' '.repeat(100)}{"id":"x"}`,
    '{}',
  ]
  for (const text of answers) assert.equal(judge(text), 'an answer', text)
  const failures = [
    '{"error":{"message":"no memory"}}',
    '{ "error" : {"message":"no memory"} }',
    '\r\n\t{"error":"no memory"}',
    '{"object":"error","message":"no memory"}',
    '{ "object" : "error", "message":"no memory"}',
  ]
  for (const text of failures) assert.equal(judge(text), 'upstream_failed', text)
  for (const text of ['', '[]', 'null', '"error"', '<html>', '{"error":{"message":"no mem']) {
    assert.equal(judge(text), 'upstream_invalid', text)
  }
})
