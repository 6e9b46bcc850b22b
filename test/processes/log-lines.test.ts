import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { forwardLines } from '../../src/processes/log-lines.ts'

async function forward(chunks: readonly (string | Buffer)[]) {
  const source = new PassThrough()
  const written: string[] = []
  forwardLines(source, {
    writeLine: (line) => written.push(`line ${line}`),
    writeText: (text) => written.push(`text ${text}`),
  })
  for (const chunk of chunks) source.write(chunk)
  source.end()
  await once(source, 'end')
  return written
}

test('lines cut anywhere arrive whole, also in the midst of a character', async () => {
  const bytes = Buffer.from('{"msg":"é"}\n{"msg":"b"}\n')
  const whole = ['line {"msg":"é"}\n', 'line {"msg":"b"}\n']
  for (let at = 1; at < bytes.length; at += 1) {
    assert.deepEqual(await forward([bytes.subarray(0, at), bytes.subarray(at)]), whole, `cut at ${at}`)
  }
})

test('what is no line of the log is passed on as text: a crash, and the half line of a killed process', async () => {
  assert.deepEqual(await forward(['{"msg":"a"}\nError: no\n    at main.ts\n{"level":30,"ms']), [
    'line {"msg":"a"}\n',
    'text Error: no\n',
    'text     at main.ts\n',
    'text {"level":30,"ms\n',
  ])
})

test('a line without end is not kept for ever', async () => {
  const written = await forward(['x'.repeat(700_000), 'x'.repeat(700_000), 'y\n{"msg":"a"}\n'])
  assert.deepEqual(
    written.map((text) => text.length),
    [1_400_006, 7, 17],
  )
})
