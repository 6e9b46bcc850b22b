import { strict as assert } from 'node:assert'
import { it } from 'node:test'
import pino from 'pino'
import { AccessWatch } from '../../../src/gateway/auth/access-watch.ts'
import type { AccessStore } from '../../../src/storage/access-store.ts'
import { ManualClock } from '../../helpers/clock.ts'

/** No more steps than this lie between the answer of the storage and the end of a look. */
const stepsMax = 12

for (let steps = 0; steps <= stepsMax; steps += 1) {
  it(`looks anew for whoever asks ${steps} steps after a look began`, async () => {
    let looks = 0
    const revision = () => {
      looks += 1
      return Promise.resolve({ keys: 0, tenants: 0, secrets: 0 })
    }
    const access = { revision, changedKeys: () => Promise.resolve([]) } as Partial<AccessStore>
    const store = { access: access as AccessStore, onWake: () => () => {} }
    const watch = new AccessWatch({ store, clock: new ManualClock(), log: pino({ level: 'silent' }) })
    const first = watch.refresh()
    for (let step = 0; step < steps; step += 1) await Promise.resolve()
    const before = looks
    await watch.refresh()
    assert.ok(looks > before, 'what was written before the question could have been missed')
    await first
  })
}
