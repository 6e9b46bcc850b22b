import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { answer, Bench, rules } from './harness.ts'

const ask = async (bench: Bench) => (await bench.through(answer)).outcome

test('new rules leave a policy its memory where it stays the same, and forget those of models that are gone', async () => {
  const bench = new Bench(['a', 'b'], { policy: 'round_robin' })
  const inTurn = { ...rules, policy: 'round_robin' } as const
  assert.equal(await ask(bench), 'a')
  bench.router.configure(inTurn)
  assert.equal(await ask(bench), 'b', 'its turn has come')
  assert.equal(await ask(bench), 'a')
  for (const instance of [...bench.registry.all]) bench.registry.remove(instance)
  bench.router.configure(inTurn)
  for (const id of ['a', 'b']) bench.add(id, 'm')
  assert.equal(await ask(bench), 'a', 'nobody has had a turn')
})
