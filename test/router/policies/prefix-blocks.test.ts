import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { blockBytes, blocksMax, hashPrefixBlocks } from '../../../src/router/policies/prefix-blocks.ts'

type Message = { role: string; content: string }

const chat = (messages: readonly Message[], rest: Record<string, unknown> = {}) =>
  Buffer.from(JSON.stringify({ model: 'tiny', messages, ...rest }))

const text = (length: number, seed = 'x') => seed.repeat(Math.ceil(length / seed.length)).slice(0, length)

const messageArbitrary = fc.record({
  role: fc.constantFrom('user', 'assistant'),
  content: fc.string({ unit: 'grapheme', maxLength: 900 }),
})

describe('hashPrefixBlocks', () => {
  it('matches all whole blocks of the earlier turns when a conversation goes on', () => {
    const messages = fc.array(messageArbitrary, { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(messages, messages, (earlier, added) => {
        const before = hashPrefixBlocks(chat(earlier, { stream: true }), 'messages')
        const after = hashPrefixBlocks(chat([...earlier, ...added], { tools: [] }), 'messages')
        const wholeBlocks = Math.floor((Buffer.byteLength(JSON.stringify(earlier)) - 1) / blockBytes)
        assert.equal(before.length, wholeBlocks)
        assert.deepEqual(after.slice(0, before.length), before)
      }),
    )
  })

  it('ends with the value, whatever brackets, quotes and backslashes are in it', () => {
    const nasty = fc.string({ unit: fc.constantFrom('"', '\\', ']', '}', '[', '{', text(40)), maxLength: 60 })
    const messages = fc.array(fc.record({ role: fc.constant('user'), content: nasty }), { minLength: 1 })
    fc.assert(
      fc.property(messages, (messages) => {
        const blocks = hashPrefixBlocks(chat(messages, { tools: [text(2000)] }), 'messages')
        assert.equal(blocks.length, Math.floor((JSON.stringify(messages).length - 1) / blockBytes))
      }),
    )
  })

  it('leaves the closing bracket out, where a longer conversation has its next message', () => {
    const empty = JSON.stringify([{ role: 'user', content: '' }]).length
    const messages = [{ role: 'user', content: text(3 * blockBytes - empty) }]
    assert.equal(JSON.stringify(messages).length, 3 * blockBytes)
    assert.equal(hashPrefixBlocks(chat(messages), 'messages').length, 2)
  })

  it('differs from the first changed block on, and in all after it', () => {
    const words = text(10 * blockBytes, 'once upon a time ')
    const changed = `${words.slice(0, 4 * blockBytes)}!${words.slice(4 * blockBytes + 1)}`
    const a = hashPrefixBlocks(chat([{ role: 'user', content: words }]), 'messages')
    const b = hashPrefixBlocks(chat([{ role: 'user', content: changed }]), 'messages')
    assert.deepEqual(b.slice(0, 4), a.slice(0, 4))
    for (let i = 4; i < a.length; i += 1) assert.notEqual(a[i], b[i])
  })

  it('reads the prompt of a completion: a text, a list of texts, tokens', () => {
    const long = text(3 * blockBytes)
    for (const prompt of [long, [long, 'b'], Array.from({ length: 400 }, () => 12)]) {
      const body = Buffer.from(JSON.stringify({ model: 'tiny', prompt, max_tokens: 5 }))
      assert.ok(hashPrefixBlocks(body, 'prompt').length >= 3, JSON.stringify(prompt).slice(0, 20))
    }
  })

  it('does not depend on where in the body the value stands, nor on blanks around the colon', () => {
    const messages = [{ role: 'user', content: text(1000, 'abc') }]
    const expected = hashPrefixBlocks(chat(messages), 'messages')
    const other = Buffer.from(`{"temperature":0.5 , "messages" : ${JSON.stringify(messages)}}`)
    assert.deepEqual(hashPrefixBlocks(other, 'messages'), expected)
    assert.ok(expected.length > 0)
  })

  it('looks at a bounded part of a huge prompt', () => {
    const body = chat([{ role: 'user', content: text(5_000_000) }])
    assert.equal(hashPrefixBlocks(body, 'messages').length, blocksMax)
  })

  it('is empty for a missing field, a number, and bytes that end too soon', () => {
    for (const body of [
      '',
      '{}',
      '{"messages"',
      '{"messages":',
      '{"messages":  ',
      '{"messages":1}',
      '{"prompt":null}',
    ]) {
      assert.deepEqual(hashPrefixBlocks(Buffer.from(body), 'messages'), [], body)
    }
  })

  it('never throws and never reads outside the body, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => {
        const body = Buffer.concat([Buffer.from('{"messages":'), bytes])
        assert.ok(hashPrefixBlocks(body, 'messages').length <= body.length / blockBytes)
      }),
    )
  })

  it('has no false match among 200,000 blocks', () => {
    const seen = new Set<number>()
    for (let i = 0; i < 400; i += 1) {
      const body = Buffer.from(JSON.stringify({ prompt: `${i} ${text(blockBytes * blocksMax)}` }))
      for (const block of hashPrefixBlocks(body, 'prompt')) {
        assert.ok(Number.isSafeInteger(block))
        seen.add(block)
      }
    }
    assert.equal(seen.size, 400 * blocksMax)
  })
})
