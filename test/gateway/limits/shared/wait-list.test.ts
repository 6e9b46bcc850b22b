import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { Leased } from '../../../../src/gateway/limits/shared/leased.ts'
import { WaitList } from '../../../../src/gateway/limits/shared/wait-list.ts'

const aNeed = (): Leased => ({}) as Leased

function makeList() {
  const list = new WaitList()
  let looks = 0
  const names: string[] = []
  const add = (name: string, ...needs: Leased[]) => {
    list.add({
      get needs() {
        looks += 1
        return needs
      },
      decide: () => names.push(name),
      refuse: () => {},
    })
  }
  const take = (...items: Leased[]): string[] => {
    names.length = 0
    for (const waiter of list.take(items)) waiter.decide()
    return [...names]
  }
  return { list, add, take, looks: () => looks }
}

describe('those who wait for an ask', () => {
  it('go along with the last of their needs, in the order in which they came', () => {
    const { list, add, take } = makeList()
    const [a, b, model] = [aNeed(), aNeed(), aNeed()]
    add('one', a, model)
    add('two', model)
    add('three', b)
    add('four', a)
    assert.deepEqual(take(model), ['two'])
    assert.deepEqual(take(b, a), ['one', 'three', 'four'])
    assert.equal(list.size, 0)
    assert.deepEqual(take(a, b, model), [])
  })

  it('are all there when nobody can be asked', () => {
    const { list, add, take } = makeList()
    const [a, b] = [aNeed(), aNeed()]
    add('one', a, b)
    add('two', b)
    take(a)
    assert.equal(list.takeAll().length, 2)
    assert.equal(list.size, 0)
    assert.deepEqual(take(b), [])
  })

  it('are looked at once each, however many asks it takes', () => {
    const { list, add, take, looks } = makeList()
    const needs = Array.from({ length: 1_000 }, aNeed)
    for (let i = 0; i < 10_000; i += 1) add(String(i), needs[i % 1_000] as Leased)
    for (let at = 0; at < 1_000; at += 64) take(...needs.slice(at, at + 64))
    assert.equal(list.size, 0)
    assert.ok(looks() <= 20_000, `${looks()} looks`)
  })
})
