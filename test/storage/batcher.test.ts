import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { Batcher } from '../../src/storage/batcher.ts'

/** A batcher whose batches end when the test says so. */
function makeBatcher(limits: { batchMax?: number; waitingMax?: number; inFlightMax?: number } = {}) {
  const batches: { items: number[]; end: (error?: Error) => void }[] = []
  const batcher = new Batcher<number, string>({
    batchMax: 100,
    waitingMax: 100,
    ...limits,
    run: (items) =>
      new Promise((resolve, reject) => {
        batches.push({
          items,
          end: (error) => (error ? reject(error) : resolve(items.map((item) => `${item}!`))),
        })
      }),
  })
  return { batcher, batches }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

describe('the batcher', () => {
  it('collects one turn of the loop, then what comes while a batch is under way', async () => {
    const { batcher, batches } = makeBatcher()
    const answers = [1, 2].map((item) => batcher.add(item))
    await turn()
    answers.push(batcher.add(3))
    await turn()
    answers.push(batcher.add(4))
    await turn()
    assert.deepEqual(
      batches.map(({ items }) => items),
      [[1, 2]],
    )
    batches[0]!.end()
    assert.deepEqual(await Promise.all(answers.slice(0, 2)), ['1!', '2!'])
    await turn()
    batches[1]!.end()
    assert.deepEqual(await Promise.all(answers.slice(2)), ['3!', '4!'])
    assert.equal(batches.length, 2)
  })

  it('keeps to the size of a batch, and to how many are under way', async () => {
    const { batcher, batches } = makeBatcher({ batchMax: 2, inFlightMax: 2 })
    const answers = [1, 2, 3, 4, 5].map((item) => batcher.add(item))
    for (let count = 0; count < 5; count += 1) await turn()
    assert.deepEqual(
      batches.map(({ items }) => items),
      [
        [1, 2],
        [3, 4],
      ],
    )
    batches[1]!.end()
    assert.equal(await answers[3], '4!')
    await turn()
    assert.deepEqual(batches[2]?.items, [5])
    batches[0]!.end()
    batches[2]?.end()
    assert.equal((await Promise.all(answers)).length, 5)
  })

  it('refuses one more than may wait, and takes it later', async () => {
    const { batcher, batches } = makeBatcher({ waitingMax: 2 })
    const answers = [1, 2].map((item) => batcher.add(item))
    const refused = assert.rejects(batcher.add(3), { name: 'StoreUnavailable' })
    await turn()
    answers.push(batcher.add(4))
    assert.equal(batcher.waiting, 1)
    await refused
    batches[0]!.end()
    await answers[0]
    await turn()
    batches[1]!.end()
    assert.deepEqual(await Promise.all(answers), ['1!', '2!', '4!'])
  })

  it('fails every item of a batch that fails, and none of the next', async () => {
    const { batcher, batches } = makeBatcher()
    const failed = [1, 2].map((item) => batcher.add(item))
    await turn()
    const next = batcher.add(3)
    batches[0]!.end(new Error('away'))
    for (const { status } of await Promise.allSettled(failed)) assert.equal(status, 'rejected')
    await turn()
    batches[1]!.end()
    assert.equal(await next, '3!')
  })
})
