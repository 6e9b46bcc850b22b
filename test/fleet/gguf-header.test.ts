import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { readGgufHeader } from '../../src/fleet/gguf-header.ts'
import { makeGguf } from '../helpers/gguf.ts'

describe('the head of a GGUF file', () => {
  const whole = makeGguf()

  it('says how long the file must be', () => {
    assert.deepEqual(readGgufHeader(whole), {
      kind: 'header',
      header: { version: 3, tensorCount: 1, bytesMin: whole.length },
    })
  })
  it('is either read, unfinished or broken, wherever it ends and whatever is in it', () => {
    for (let length = 0; length < whole.length - 256; length += 1) {
      assert.notEqual(readGgufHeader(whole.subarray(0, length)).kind, 'broken')
    }
    for (let at = 0; at < whole.length; at += 1) {
      const damaged = Buffer.from(whole)
      damaged[at] = 0xff
      readGgufHeader(damaged)
    }
  })
})
