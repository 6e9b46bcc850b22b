import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { formatPretty } from '../../src/telemetry/log.ts'

test('a readable line is one line, and moves no cursor, whatever stands in it', () => {
  const hostile = 'a\r\n\u001b[2J\u009b2Jb\u2028c'
  const entry = {
    time: '2026-01-01T12:30:01.250Z',
    level: 30,
    msg: hostile,
    caller: hostile,
    list: [hostile],
  }
  const line = formatPretty(JSON.stringify(entry))
  assert.match(line, /^12:30:01\.250 info {2}a\\u000d\\u000a\\u001b\[2J/)
  assert.doesNotMatch(line.slice(0, -1), /[\u0000-\u001f\u007f-\u009f\u2028]/)
  const failed = formatPretty(JSON.stringify({ ...entry, err: { stack: 'Error: x\u001b[2J\n    at y' } }))
  assert.match(failed, /\nError: x\\u001b\[2J\n {4}at y\n$/)
})
