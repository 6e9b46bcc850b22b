import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { Wake } from '../../src/storage/store.ts'
import type { AccessStore, KeyRow, SecretRow } from '../../src/storage/access-store.ts'
import type { WithStore } from './store.ts'
import { startMs } from './tasks.ts'

const newKey = (id: string, more: Partial<KeyRow> = {}): KeyRow => ({
  id,
  tenant: 'acme',
  name: 'ci',
  hash: `hash of ${id}`,
  roles: ['inference', 'read'],
  limits: '{"requestsPerMinute":5}',
  createdAtMs: startMs,
  expiresAtMs: null,
  revokedAtMs: null,
  ...more,
})
const newSecret = (number: number, more: Partial<SecretRow> = {}): SecretRow => ({
  kind: 'token',
  number,
  id: `s${number}`,
  algorithm: 'ES256',
  secret: '{}',
  createdAtMs: startMs,
  ...more,
})
const keyLimits = { keysMax: 100, endedBeforeMs: 0 }
const tenant = (name: string, version: number | null, settings = '{}') => ({
  ...{ name, version, settings },
  updatedAtMs: startMs,
})

export function describeAccess(withStore: WithStore): void {
  describe('access', () => {
    it(
      'keeps keys, and revokes each once',
      withStore(async ({ access }) => {
        assert.equal(await access.insertKey(newKey('k1'), keyLimits), 'created')
        assert.equal(await access.insertKey(newKey('k1', { hash: 'another' }), keyLimits), 'taken')
        assert.deepEqual(await access.getKey('k1'), newKey('k1'))
        assert.equal(await access.getKey('k2'), null)
        const revoked = newKey('k1', { revokedAtMs: startMs + 5 })
        assert.deepEqual(await access.revokeKey('k1', startMs + 5), revoked)
        assert.deepEqual(await access.revokeKey('k1', startMs + 9), revoked, 'the first time counts')
        assert.deepEqual(await access.getKey('k1'), revoked)
        assert.equal(await access.revokeKey('k2', startMs), null)
      }),
    )

    it(
      'lists keys, newest first, by pages and tenants',
      withStore(async ({ access }) => {
        for (const [id, at, owner] of [['b', 1, 'acme'], ['a', 1, 'acme'], ['c', 0, 'acme'], ['d', 2, 'other']] as const) {
          await access.insertKey(newKey(id, { createdAtMs: startMs + at, tenant: owner }), keyLimits)
        }
        const list = async (query: { tenant?: string; after?: string }) =>
          (await access.listKeys({ limit: 2, ...query })).map(({ id }) => id)
        assert.deepEqual(await list({}), ['d', 'b'])
        assert.deepEqual(await list({ after: 'b' }), ['a', 'c'])
        assert.deepEqual(await list({ tenant: 'acme' }), ['b', 'a'])
        assert.deepEqual(await list({ tenant: 'acme', after: 'a' }), ['c'])
        assert.deepEqual(await list({ after: 'none' }), [])
      }), // prettier-ignore
    )

    it(
      'holds as many keys as are allowed, and lets go of those that ended long ago',
      withStore(async ({ access }) => {
        const limits = { keysMax: 2, endedBeforeMs: startMs }
        await access.insertKey(newKey('expired', { expiresAtMs: startMs - 1 }), { ...limits, endedBeforeMs: 0 })
        await access.insertKey(newKey('revoked', { revokedAtMs: startMs - 1 }), { ...limits, endedBeforeMs: 0 })
        assert.equal(await access.insertKey(newKey('k1'), { ...limits, endedBeforeMs: 0 }), 'full')
        assert.equal(await access.insertKey(newKey('k1'), limits), 'created')
        assert.equal(await access.insertKey(newKey('k2', { expiresAtMs: startMs }), limits), 'created')
        assert.equal(await access.insertKey(newKey('k3'), limits), 'full')
        assert.deepEqual((await access.listKeys({ limit: 9 })).map(({ id }) => id).sort(), ['k1', 'k2'])
      }), // prettier-ignore
    )

    it(
      'counts its revisions up with every write, and names the keys that have changed since',
      withStore(async ({ access }) => {
        assert.deepEqual(await access.revision(), { keys: 0, tenants: 0, secrets: 0 })
        const moved = async (part: 'keys' | 'tenants' | 'secrets', write: () => Promise<unknown>) => {
          const before = await access.revision()
          await write()
          const { [part]: now, ...others } = await access.revision()
          assert.ok(now > before[part], `${part} ${before[part]} -> ${now}`)
          assert.deepEqual({ ...others, [part]: before[part] }, before)
        }
        await moved('keys', () => access.insertKey(newKey('k1'), keyLimits))
        const { keys } = await access.revision()
        await moved('keys', () => access.insertKey(newKey('k2'), keyLimits))
        await moved('keys', () => access.revokeKey('k1', startMs))
        await moved('tenants', () => access.putTenant(tenant('acme', 0), 9))
        await moved('tenants', () => access.removeTenant('acme'))
        await moved('secrets', () => access.insertSecret(newSecret(1)))
        await moved('secrets', () => access.removeSecrets('token', 1))
        assert.deepEqual((await access.changedKeys(keys, 9))?.sort(), ['k1', 'k2'])
        assert.equal(await access.changedKeys(keys, 1), null, 'too many to name')
        assert.deepEqual(await access.changedKeys((await access.revision()).keys, 9), [])
      }),
    )

    it(
      'keeps tenants, and lets one of two writers through',
      withStore(async ({ access }) => {
        assert.equal(await access.putTenant(tenant('b', 1), 9), null, 'there is none of this version')
        const first = { name: 'b', settings: '{"weight":2}', version: 1, updatedAtMs: startMs }
        assert.deepEqual(await access.putTenant(tenant('b', 0, '{"weight":2}'), 9), first)
        assert.deepEqual(await access.listTenants({ limit: 9 }), [first])
        assert.equal(await access.putTenant(tenant('b', 0), 9), null)
        const writes = await Promise.all(
          ['{"weight":3}', '{"weight":4}'].map((settings) => access.putTenant(tenant('b', 1, settings), 9)),
        )
        assert.equal(writes.filter((row) => row !== null && row !== 'full').length, 1)
        const again = await access.putTenant(tenant('b', null, '{"weight":5}'), 9)
        assert.deepEqual(again, { ...first, version: 3, settings: '{"weight":5}' })
        assert.deepEqual(await access.putTenant(tenant('a', null), 2), {
          ...first,
          name: 'a',
          settings: '{}',
        })
        assert.equal(await access.putTenant(tenant('c', null), 2), 'full')
        const list = async (query: { after?: string; limit: number }) =>
          (await access.listTenants(query)).map(({ name }) => name)
        assert.deepEqual(await list({ limit: 9 }), ['a', 'b'])
        assert.deepEqual(await list({ limit: 1 }), ['a'])
        assert.deepEqual(await list({ after: 'a', limit: 9 }), ['b'])
        assert.equal(await access.removeTenant('b'), true)
        assert.equal(await access.removeTenant('b'), false)
        assert.deepEqual(await list({ limit: 9 }), ['a'])
      }),
    )

    it(
      'gives each number of a secret to the first who asks',
      withStore(async ({ access }) => {
        const given = await Promise.all(
          ['x', 'y', 'z'].map((id) => access.insertSecret(newSecret(1, { id }))),
        )
        assert.equal(given.filter(Boolean).length, 1)
        await access.insertSecret(newSecret(2))
        await access.insertSecret(newSecret(1, { kind: 'key-hash' }))
        const numbers = async (kind: SecretRow['kind']) =>
          (await access.listSecrets(kind)).map(({ number }) => number)
        assert.deepEqual(await numbers('token'), [2, 1])
        assert.deepEqual((await access.listSecrets('token'))[0], newSecret(2))
        await access.removeSecrets('token', 1)
        assert.deepEqual(await numbers('token'), [2])
        assert.deepEqual(await numbers('key-hash'), [1])
      }),
    )

    it(
      'tells of its writes',
      withStore(async (store) => {
        for (const write of [
          (access: AccessStore) => access.insertKey(newKey('k1'), keyLimits),
          (access: AccessStore) => access.putTenant(tenant('acme', 0), 9),
        ]) {
          const told = Promise.withResolvers<Wake>()
          const stop = store.onWake((wake) => wake.kind === 'access' && told.resolve(wake))
          await write(store.access)
          assert.deepEqual(await told.promise, { kind: 'access' })
          stop()
        }
      }),
    )
  })
}
