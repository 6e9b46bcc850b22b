import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { endOfLastEvent, formatEvent, readEventData, readEvents, splitEvents } from '../../src/core/sse.ts'

const line = fc.constantFrom(
  'data: {"a":1}',
  'data:x',
  'data: ä\u{1F600}',
  ': ping',
  'event: x',
  'data: [DONE]',
)
const event = (...ends: string[]) =>
  fc
    .tuple(fc.array(line, { minLength: 1, maxLength: 3 }), fc.constantFrom(...ends))
    .map(([lines, end]) => lines.join(end) + end + end)
/** CR alone is not mixed with the others: a stream is written by one program. */
const stream = fc.oneof(
  fc.array(event('\n', '\r\n'), { maxLength: 8 }),
  fc.array(event('\r'), { maxLength: 8 }),
)

test('an event is whole when its empty line is there, with any line end', () => {
  const cases: [string, number][] = [
    ['', 0],
    ['data: x', 0],
    ['data: x\n', 0],
    ['data: x\n\n', 9],
    ['data: x\r\n\r\n', 11],
    ['data: x\n\ndata: y', 9],
    ['data: x\n\ndata: y\n', 9],
    ['data: x\n\n\n', 10],
    ['\n', 0],
    ['data: x\r', 0],
    ['data: x\r\r', 9],
    ['data: x\r\rdata: y\r', 9],
    ['data: x\r\n\r', 0],
  ]
  for (const [text, end] of cases) assert.equal(endOfLastEvent(Buffer.from(text)), end, JSON.stringify(text))
})

test('splitting loses and adds no byte', () => {
  fc.assert(
    fc.property(stream, (events) => {
      const whole = Buffer.from(events.join(''))
      assert.equal(endOfLastEvent(whole), whole.length)
      assert.deepEqual(splitEvents(whole).map(String), events)
    }),
  )
})

test('readEvents finds the same data however the bytes are cut', async () => {
  await fc.assert(
    fc.asyncProperty(stream, fc.integer({ min: 1, max: 40 }), async (events, size) => {
      const whole = Buffer.from(events.join(''))
      const cuts = Array.from({ length: Math.ceil(whole.length / size) }, (_, i) =>
        whole.subarray(i * size, (i + 1) * size),
      )
      const seen: string[] = []
      for await (const data of readEvents(ReadableStream.from(cuts) as AsyncIterable<Uint8Array>))
        seen.push(data)
      const expected = events.map((text) => readEventData(Buffer.from(text))).filter((data) => data !== null)
      assert.deepEqual(seen, expected)
    }),
  )
})

test('data lines are joined, comments have none', () => {
  assert.equal(readEventData(Buffer.from('data: a\ndata: b\n\n')), 'a\nb')
  assert.equal(readEventData(Buffer.from(': ping\n\n')), null)
  assert.equal(readEventData(Buffer.from(formatEvent({ x: 'a\nb' }))), '{"x":"a\\nb"}')
})

test('an event without end is refused', async () => {
  const endless = (async function* () {
    for (;;) yield Buffer.from('data: xxxxxxxx')
  })()
  await assert.rejects(async () => {
    for await (const _ of readEvents(endless, { eventBytesMax: 1000 }));
  }, /larger than 1000 bytes/)
})
