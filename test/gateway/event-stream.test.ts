import { strict as assert } from 'node:assert'
import { EventEmitter } from 'node:events'
import type { ServerResponse } from 'node:http'
import { test } from 'node:test'
import { EventStream } from '../../src/gateway/event-stream.ts'
import { ManualClock } from '../helpers/clock.ts'

const pieceBytes = 65_536

/** An answer whose reader takes what the test says, and nothing else. */
class FakeResponse extends EventEmitter {
  destroyed = false
  writableLength = 0
  hasEnded = false
  readonly written: string[] = []

  writeHead(): this {
    return this
  }

  write(chunk: string | Buffer): boolean {
    this.written.push(chunk.toString())
    this.writableLength += Buffer.byteLength(chunk)
    return false
  }

  end(): void {
    this.hasEnded = true
  }

  destroy(): void {
    this.destroyed = true
    this.emit('close')
  }

  take(bytes: number): void {
    this.writableLength -= bytes
    if (this.writableLength === 0) this.emit('drain')
  }
}

function open({ stallMs } = { stallMs: 5_000 }) {
  const clock = new ManualClock()
  const response = new FakeResponse()
  const stream = new EventStream({ response: response as unknown as ServerResponse, clock, stallMs })
  stream.open({}, 'retry: 1\n\n')
  response.take(response.writableLength)
  return { clock, response, stream, stallMs }
}

test('a reader that takes nothing is cut off, and nothing is left of it', async () => {
  const { clock, response, stream, stallMs } = open()
  const sent = stream.send('x'.repeat(3 * pieceBytes))
  assert.equal(response.written.length, 2, 'one piece at a time waits for room')
  clock.advance(stallMs - 1)
  assert.equal(response.destroyed, false)
  clock.advance(1)
  assert.equal(response.destroyed, true)
  assert.equal(await sent, false)
  assert.equal(stream.signal.aborted, true)
  assert.deepEqual([response.written.length, response.listenerCount('drain'), clock.pending], [2, 0, 0])
  assert.equal(await stream.send('more'), false)
  assert.equal(response.written.length, 2)
})

test('a slow reader goes on for as long as it takes something', async () => {
  const { clock, response, stream, stallMs } = open()
  const sent = stream.send('x'.repeat(pieceBytes))
  for (let turn = 0; turn < 10; turn += 1) {
    response.take(1)
    clock.advance(stallMs)
    assert.equal(response.destroyed, false)
  }
  response.take(response.writableLength)
  assert.equal(await sent, true)
  clock.advance(stallMs)
  assert.equal(response.destroyed, false, 'who has taken everything is waited for by nobody')
})

test('a reader that leaves the last bytes is cut off, too', async () => {
  const { clock, response, stream } = open()
  const ended = stream.end('the end')
  response.take(response.writableLength)
  await ended
  assert.equal(response.hasEnded, true)

  const other = open()
  const last = other.stream.end('the end')
  // There is room for more, though the last bytes are still here.
  other.response.emit('drain')
  await last
  other.clock.advance(other.stallMs)
  assert.equal(other.response.destroyed, true)
  assert.deepEqual([clock.pending, other.clock.pending], [0, 0])
})

test('the sign of life comes to those who wait, and not between the pieces of an event', async () => {
  const { clock, response, stream } = open({ stallMs: 60_000 })
  const heartbeat = ': still here\n\n'
  clock.advance(15_000)
  assert.equal(response.written.at(-1), heartbeat)
  clock.advance(15_000)
  assert.equal(response.written.filter((text) => text === heartbeat).length, 1, 'it has one to take')
  response.take(response.writableLength)
  const sent = stream.send('x'.repeat(2 * pieceBytes))
  // Taken, and the next piece has not been asked for yet.
  response.writableLength = 0
  clock.advance(15_000)
  assert.equal(response.written.filter((text) => text === heartbeat).length, 1)
  response.destroy()
  assert.equal(await sent, false)
  assert.equal(clock.pending, 0)
})
