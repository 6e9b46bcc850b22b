import { strict as assert } from 'node:assert'
import { after, describe, it } from 'node:test'
import type { Store } from '../../../src/storage/store.ts'
import { TestAccess } from '../../helpers/access.ts'
import { ManualClock } from '../../helpers/clock.ts'
import { createDatabase, makeStore } from '../../helpers/postgres.ts'
import { eventually } from '../../helpers/server.ts'
import { serviceSkip } from '../../helpers/services.ts'
import { Folder, TestStore } from '../../helpers/sqlite.ts'
import { deafen } from '../../queue/harness.ts'

/** Of the clock: what a storage and a machine take beside it is not measured here. */
const withinMs = 1_000

/** Two gates that know of each other by their storage alone. */
function describeReplicas(name: string, open: () => Promise<{ one: Store; two: Store; close: () => Promise<void> }>) {
  describe(name, () => {
    for (const [how, listen, waitMs] of [['told by the storage', (store: Store) => store, 0], ['asking the storage', deafen, withinMs / 2]] as const) {
      it(`revokes a key and its tokens on the other server within a second, ${how}`, async () => {
        const stores = await open()
        const clock = new ManualClock()
        const one = await TestAccess.open({}, { store: stores.one, clock })
        const two = await TestAccess.open({}, { store: listen(stores.two), clock })
        try {
          const { key, text } = await one.makeKey()
          const { token } = await one.parts.tokens.issue(key.id, { roles: null, ttlMs: null })
          for (const credential of [text, token]) {
            assert.equal((await two.identify(credential)).tenant, 'acme')
          }
          await one.parts.keys.revoke(key.id)
          clock.advance(waitMs)
          for (const credential of [text, token]) {
            const isRefused = () => two.identify(credential).then(() => false, () => true)
            await eventually('the other server refuses it', isRefused)
          }
          assert.match((await two.refusal(token)).message, /revoked/)
        } finally {
          await one[Symbol.asyncDispose]()
          await two[Symbol.asyncDispose]()
          await stores.close()
        }
      })

      it(`follows tenants on the other server within a second, ${how}`, async () => {
        const stores = await open()
        const clock = new ManualClock()
        const one = await TestAccess.open({}, { store: stores.one, clock })
        const two = await TestAccess.open({}, { store: listen(stores.two), clock })
        try {
          await one.parts.tenants.put('acme', { weight: 3 }, null)
          clock.advance(waitMs)
          await eventually('it is seen', () => two.parts.tenants.of('acme').weight === 3)
          await one.parts.tenants.remove('acme')
          clock.advance(waitMs)
          await eventually('it is gone', () => two.parts.tenants.of('acme').weight === 1)
        } finally {
          await one[Symbol.asyncDispose]()
          await two[Symbol.asyncDispose]()
          await stores.close()
        }
      })
    }
  })
} // prettier-ignore

describeReplicas('two gates on one SQLite store', async () => {
  const folder = await Folder.make()
  const store = await TestStore.open(folder.database)
  const close = async () => {
    await store.stop()
    await folder[Symbol.asyncDispose]()
  }
  return { one: store, two: store, close }
})

const skip = await serviceSkip('postgresql')
if (skip) describe('two gates on one PostgreSQL', { skip }, () => {})
else {
  const database = await createDatabase()
  after(() => database.drop())
  describeReplicas('two gates on one PostgreSQL', async () => {
    const one = makeStore(database.url)
    const two = makeStore(database.url)
    await one.start()
    await two.start()
    return { one, two, close: () => Promise.all([one.stop(), two.stop()]).then(() => {}) }
  })
}
