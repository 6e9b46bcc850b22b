import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import type { Ask, AskItem } from '../../../../src/gateway/limits/shared/authority.ts'
import { MemoryAuthority } from '../../../../src/gateway/limits/shared/memory-authority.ts'
import { hostLimits, WireAuthority } from '../../../../src/gateway/limits/shared/wire-authority.ts'
import { ManualClock } from '../../../helpers/clock.ts'
import { joinWires } from '../../../helpers/wires.ts'

const slots = (held: number, need: number): AskItem => ({ kind: 'slots', key: 'k', limit: 4, held, need, want: need }) // prettier-ignore
const ask = (replica: string, ...items: AskItem[]): Ask => ({ replica, bye: false, items })

test('processes of one machine share what the first keeps; one that dies leaves its slots at once', async () => {
  const memory = new MemoryAuthority(new ManualClock())
  const join = () => {
    const [here, there] = joinWires()
    hostLimits(there, memory)
    return { authority: new WireAuthority(here), here, there }
  }
  const [one, other] = [join(), join()]
  await one.authority.open()
  const first = await one.authority.decide(ask('one', slots(0, 3)))
  assert.equal(first.results[0]?.granted, 3)
  const second = await other.authority.decide(ask('other', slots(0, 3)))
  assert.deepEqual([second.replicas, second.results[0]?.granted], [2, 1])

  one.here.close()
  await one.there.closed
  await new Promise((resolve) => setImmediate(resolve))
  const third = await other.authority.decide(ask('other', slots(1, 3)))
  assert.deepEqual([third.replicas, third.results[0]?.granted], [1, 3])
  await assert.rejects(one.authority.decide(ask('one')), /gone/)
})
