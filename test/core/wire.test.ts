import { strict as assert } from 'node:assert'
import { duplexPair } from 'node:stream'
import { test } from 'node:test'
import { SetupError } from '../../src/core/errors.ts'
import { Wire, WireError } from '../../src/core/wire.ts'
import { joinWires } from '../helpers/wires.ts'

test('bytes, maps and undefined arrive as they were sent, in order', async () => {
  const [here, there] = joinWires()
  const told: unknown[] = []
  there.on('note', (body: unknown) => told.push(body))
  there.on('echo', (body: unknown) => body)
  const bytes = new Uint8Array([0, 255, 10])
  here.tell('note', 1)
  here.tell('note', { map: new Map([['m', 'm']]), gone: undefined })
  const answer = await here.ask<{ bytes: Uint8Array; at: number }>('echo', { bytes, at: -Infinity })
  assert.deepEqual([...answer.bytes], [0, 255, 10])
  assert.equal(answer.at, -Infinity)
  assert.deepEqual(told, [1, { map: new Map([['m', 'm']]), gone: undefined }])
})

test('frames cut anywhere and frames glued together are read the same', async () => {
  const [one, middle] = duplexPair()
  const [otherMiddle, other] = duplexPair()
  // Seven bytes at a time: a head is four.
  middle.on('data', (chunk: Buffer) => {
    for (let at = 0; at < chunk.length; at += 7) otherMiddle.write(chunk.subarray(at, at + 7))
  })
  otherMiddle.pipe(middle)
  const here = new Wire(one)
  const there = new Wire(other)
  there.on('size', (body: Buffer) => body.length)
  const sizes = [0, 1, 3, 100, 70_000]
  const answers = await Promise.all(sizes.map((size) => here.ask<number>('size', Buffer.alloc(size))))
  assert.deepEqual(answers, sizes)
})

test('errors keep their kind; a question that nobody answers is refused', async () => {
  const [here, there] = joinWires()
  there.on('setup', () => {
    throw new SetupError('no such folder')
  })
  there.on('type', () => Promise.reject(new TypeError('not a number')))
  await assert.rejects(here.ask('setup', null), new SetupError('no such folder'))
  await assert.rejects(
    here.ask('type', null),
    (error) => error instanceof WireError && error.kind === 'TypeError' && error.message === 'not a number',
  )
  await assert.rejects(here.ask('unknown', null), /nobody answers `unknown`/)
})

test('what could not be sent is not waited for', async () => {
  const [here, there] = joinWires({ asksMax: 1 })
  there.on('echo', (body: unknown) => body)
  await assert.rejects(
    here.ask('echo', () => {}),
    /could not be cloned/,
  )
  assert.equal(await here.ask('echo', 'room for one'), 'room for one')
})

test('bytes that are no message close the wire and nothing else', async () => {
  const [one, other] = duplexPair()
  const wire = new Wire(one)
  const asked = wire.ask('hang', null)
  const head = Buffer.alloc(4)
  head.writeUInt32LE(5)
  other.write(Buffer.concat([head, Buffer.from('hello')]))
  await assert.rejects(asked, (error) => error instanceof WireError && error.kind === 'WireClosed')
  await wire.closed
})

test('a message that can not be understood closes the wire and nothing else', async () => {
  const [here, there] = joinWires()
  there.on('note', (body: { name: string }) => body.name.trim())
  here.tell('note', null)
  await there.closed
  await here.closed
})

test('who waits hears that the other side is gone, and so does who asks later', async () => {
  const [here, there] = joinWires()
  there.on('hang', () => new Promise(() => {}))
  const waiting = here.ask('hang', null)
  const gone = assert.rejects(waiting, (error) => error instanceof WireError && error.kind === 'WireClosed')
  there.close()
  await gone
  await here.closed
  await assert.rejects(here.ask('hang', null), /gone/)
  here.tell('hang', null)
})

test('questions are bounded', async () => {
  const [here, there] = joinWires({ asksMax: 2 })
  there.on('hang', () => new Promise(() => {}))
  const waiting = [here.ask('hang', null), here.ask('hang', null)]
  await assert.rejects(
    here.ask('hang', null),
    (error) => error instanceof WireError && error.kind === 'WireFull',
  )
  there.close()
  assert.deepEqual(
    (await Promise.allSettled(waiting)).map(({ status }) => status),
    ['rejected', 'rejected'],
  )
})
