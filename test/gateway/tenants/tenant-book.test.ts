import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { keepFilesMs, readKeepTimes } from '../../../src/gateway/tenants/keep-times.ts'
import { mayUse, toTenantRules } from '../../../src/gateway/tenants/tenant-settings.ts'
import { TestAccess } from '../../helpers/access.ts'
import { makeConfig } from '../../helpers/gateway.ts'
import { AccessServer } from '../../helpers/access-server.ts'

const unreadable = { a: '{"weight":', b: 'null', c: '{"weight":"7"}' }
const day = 86_400_000
const year = 365 * day
const closed = { name: 'ApiError', code: 'storage_unavailable', status: 503 }

const write = async ({ store, parts }: TestAccess, tenants: Record<string, string>) => {
  for (const [name, settings] of Object.entries(tenants)) {
    await store.access.putTenant({ name, settings, updatedAtMs: 0, version: null }, 9)
  }
  await parts.watch.refresh()
}

const told = ({ log }: TestAccess) =>
  log
    .filter((line) => line.includes('can not be read'))
    .map((line) => JSON.parse(line) as { tenant: string; msg: string })

describe('what is stored of one tenant and can not be read', () => {
  it('is told, closes that tenant and hides no other', async () => {
    await using access = await TestAccess.open({ tenants: { default: { weight: 3 } } })
    const { tenants } = access.parts
    await write(access, { ...unreadable, d: '{"weight":7,"later":1}' })
    assert.equal(tenants.of('d').weight, 7)
    for (const name of Object.keys(unreadable)) {
      assert.throws(() => mayUse(tenants.of(name), 'm', 'm'), closed)
      assert.throws(() => toTenantRules(tenants.of(name), () => 'm'), closed)
      assert.equal(tenants.show(name).source, 'unreadable')
    }
    assert.ok(mayUse(tenants.of('e'), 'm', 'm'), 'a tenant of whom nothing is said')
    assert.deepEqual(told(access).map(({ tenant }) => tenant).sort(), ['a', 'b', 'c'])
    await using again = await TestAccess.open({}, { store: access.store })
    assert.equal(again.parts.tenants.of('d').weight, 7, 'a server that starts')
    assert.throws(() => mayUse(again.parts.tenants.of('a'), 'm', 'm'), closed)
  }) // prettier-ignore

  it('closes whoever is treated as `default`, when it is that of `default`', async () => {
    await using access = await TestAccess.open()
    const { tenants } = access.parts
    await write(access, { default: '{', own: '{"weight":2}' })
    assert.throws(() => mayUse(tenants.of('anybody'), 'm', 'm'), closed)
    assert.ok(mayUse(tenants.of('own'), 'm', 'm'))
  })

  it('takes nothing away that is kept: files and tasks stay for as long as any can', async () => {
    await makeConfig({ tenants: { longest: { keepFinishedMs: year, keepFilesMs: year } } })
    await assert.rejects(makeConfig({ tenants: { longer: { keepFilesMs: year + 1 } } }), {
      name: 'SetupError',
    })
    await using access = await TestAccess.open()
    await write(access, { a: '{' })
    const storage = { keepFinishedMs: day, keepFinishedMax: 10, keepFilesMs: day }
    assert.equal(keepFilesMs(access.parts.tenants.of('a'), storage), year)
    const { keepMs, own } = readKeepTimes(access.parts.tenants, storage)
    assert.deepEqual([keepMs, own], [day, [{ tenant: 'a', keepMs: year }]])
  })

  it('leaves a server that could read it before with what it has read', async () => {
    await using access = await TestAccess.open()
    const { tenants } = access.parts
    await write(access, { a: '{"weight":5}' })
    const before = tenants.of('a')
    await write(access, { a: '{"weight":' })
    await write(access, { a: '{"weight":"x"}' })
    assert.equal(tenants.of('a'), before)
    assert.equal(tenants.show('a').source, 'stored')
    assert.deepEqual(
      told(access).map(({ msg }) => /read last hold on/.test(msg)),
      [true, true],
    )
    await write(access, { a: '{"weight":6}' })
    assert.equal(tenants.of('a').weight, 6)
  })

  it('is shown to administrators, and mended by setting it again', async () => {
    await using access = await TestAccess.open()
    await using server = await AccessServer.start(access)
    const admin = (await access.makeKey({ roles: ['admin'] })).text
    await write(access, { a: '{' })
    const { body: shown } = await server.send(admin, 'GET', '/v1/admin/tenants/a')
    assert.deepEqual([shown.source, shown.version, shown.settings['keepFilesMs']], ['unreadable', 1, 0])
    const listed = await server.send(admin, 'GET', '/v1/admin/tenants')
    assert.deepEqual(listed.body.data, [shown])
    const put = await server.send(admin, 'PUT', '/v1/admin/tenants/a', {
      settings: { weight: 2 },
      version: 1,
    })
    assert.deepEqual([put.body.source, put.body.version], ['stored', 2])
    assert.equal(access.parts.tenants.of('a').weight, 2)
  })
})
