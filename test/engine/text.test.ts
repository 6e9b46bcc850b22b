import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import fc from 'fast-check'
import { TextAssembler } from '../../engine/text.ts'
import { decodeByteLevel, type Piece } from '../../engine/vocabulary.ts'

function pieceOf(bytes: Buffer): Piece {
  const text = bytes.toString('utf8')
  return { bytes, text: text.includes('\u{fffd}') ? null : text }
}

test('a character in parts comes out whole, with its last part', () => {
  const assembler = new TextAssembler()
  const bytes = Buffer.from('é€😀')
  const parts = [...bytes].map((byte) => assembler.push(pieceOf(Buffer.from([byte]))))
  assert.deepEqual(parts, ['', 'é', '', '', '€', '', '', '', '😀'])
})

test('bytes that are no text become replacement characters and nothing is lost after them', () => {
  const assembler = new TextAssembler()
  const parts = [Buffer.from([0xff]), Buffer.from('ok')].map((bytes) => assembler.push(pieceOf(bytes)))
  assert.equal(parts.join(''), '\u{fffd}ok')
})

test('any text cut anywhere is assembled as it was', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.array(fc.nat(6)), (text, cuts) => {
      const whole = Buffer.from(text.replaceAll('\u{fffd}', ''))
      const assembler = new TextAssembler()
      let result = ''
      let at = 0
      for (const cut of [...cuts, whole.length]) {
        result += assembler.push(pieceOf(whole.subarray(at, at + cut)))
        at = Math.min(whole.length, at + cut)
      }
      assert.equal(result, whole.toString('utf8'))
    }),
  )
})

test('byte-level names stand for bytes', () => {
  assert.equal(decodeByteLevel('Ġhello')?.toString(), ' hello')
  assert.deepEqual(decodeByteLevel('Ã©')?.toString(), 'é')
  assert.equal(decodeByteLevel('한'), null)
})
