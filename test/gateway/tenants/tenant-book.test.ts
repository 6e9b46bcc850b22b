import { strict as assert } from 'node:assert'
import { it } from 'node:test'
import { TestAccess } from '../../helpers/access.ts'

it('what is stored of one tenant and can not be read is told, and hides no other', async () => {
  await using access = await TestAccess.open({ tenants: { default: { weight: 3 } } })
  const { tenants, watch } = access.parts
  for (const [name, settings] of Object.entries({ a: '{"weight":', b: 'null', c: '{"weight":"7"}' })) {
    await access.store.access.putTenant({ name, settings, updatedAtMs: 0, version: 0 }, 9)
  }
  await access.store.access.putTenant({ name: 'd', settings: '{"weight":7,"later":1}', updatedAtMs: 0, version: 0 }, 9) // prettier-ignore
  await watch.refresh()
  assert.equal(tenants.of('d').weight, 7)
  for (const name of ['a', 'b', 'c']) assert.equal(tenants.of(name).weight, 3, name)
  const told = access.log.filter((line) => line.includes('can not be read'))
  assert.deepEqual(
    new Set(told.map((line) => (JSON.parse(line) as { tenant: string }).tenant)),
    new Set(['a', 'b', 'c']),
  )
  await using again = await TestAccess.open({}, { store: access.store })
  assert.equal(again.parts.tenants.of('d').weight, 7, 'a server that starts')
})
