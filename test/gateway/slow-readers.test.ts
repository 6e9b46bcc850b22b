import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { SlowReaders } from '../../src/gateway/slow-readers.ts'

const large = 300_000

test('large texts share their room, small ones need none, and one alone always has some', async () => {
  const readers = new SlowReaders({ heldCharsMax: 2 * large })
  const taken: (() => void)[] = []
  const send = (chars: number) =>
    readers.send(chars, () => new Promise<void>((resolve) => void taken.push(resolve)))
  const alone = send(100 * large)
  assert.equal(taken.length, 1)
  assert.equal(await send(large), false)
  const small = send(1_000)
  assert.equal(taken.length, 2)
  taken[0]?.()
  assert.equal(await alone, true)
  const two = [send(large), send(large)]
  assert.equal(taken.length, 4)
  assert.equal(await send(large), false, 'the room is taken')
  assert.equal(taken.length, 4)
  for (const take of taken) take()
  assert.deepEqual(await Promise.all([small, ...two]), [true, true, true])
})

test('a reader that fails leaves its room to others', async () => {
  const readers = new SlowReaders({ heldCharsMax: large })
  await assert.rejects(readers.send(large, () => Promise.reject(new Error('gone'))))
  assert.equal(await readers.send(large, () => Promise.resolve()), true)
})
