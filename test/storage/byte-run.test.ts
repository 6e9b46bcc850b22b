import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { ByteReader, ByteWriter, ownBytes } from '../../src/storage/sqlite/byte-run.ts'

test('bytes in a run come out as they went in', () => {
  const pieces = [Buffer.from('ab'), Buffer.alloc(0), new Uint8Array([1, 2, 3])]
  const writer = new ByteWriter()
  const lengths = pieces.map((piece) => writer.add(piece))
  const reader = new ByteReader(writer.join())
  for (const [at, length] of lengths.entries()) assert.deepEqual([...reader.take(length)], [...pieces[at]!])
})

test('what is cloned takes nothing of the buffer along that it lies in', () => {
  const chunk = Buffer.from('a piece of a large buffer')
  for (const view of [chunk.subarray(2, 7), new Uint8Array(chunk.buffer, chunk.byteOffset + 2, 5)]) {
    const own = ownBytes(view)
    assert.equal(Buffer.from(own).toString(), 'piece')
    assert.equal(own.buffer.byteLength, 5)
  }
  const whole = new Uint8Array(5)
  assert.equal(ownBytes(whole), whole, 'what lies alone is not copied')
})
