import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import type { TenantSettings } from '../../../src/config/schema.ts'
import { keepFilesMs, readKeepTimes } from '../../../src/gateway/tenants/keep-times.ts'
import type { KnownTenant, TenantBook } from '../../../src/gateway/tenants/tenant-book.ts'
import { plainTenant } from '../../../src/gateway/tenants/tenant-settings.ts'

const storage = { keepFinishedMs: 7, keepFinishedMax: 10, keepFilesMs: 30 }

function bookOf(tenants: Record<string, Partial<TenantSettings>>): Pick<TenantBook, 'of' | 'list'> {
  const of = (name: string) => ({ ...plainTenant, ...(tenants[name] ?? tenants['default']) })
  const list = () => Object.keys(tenants).map((name) => ({ name, settings: of(name) }) as KnownTenant)
  return { of, list }
}

test('0 of a tenant stands for the time of all', () => {
  assert.equal(keepFilesMs({ keepFilesMs: 0 }, storage), 30)
  assert.equal(keepFilesMs({ keepFilesMs: 5 }, storage), 5)
  assert.equal(keepFilesMs({ keepFilesMs: 50 }, storage), 50)
})

test('tenants that are named nowhere keep their tasks as `default` does, the named ones by what is said of them', () => {
  assert.deepEqual(readKeepTimes(bookOf({}), storage), { keepMs: 7, own: [], finishedMax: 10 })
  assert.deepEqual(readKeepTimes(bookOf({ default: { keepFinishedMs: 3 }, a: {}, b: { keepFinishedMs: 9 } }), storage), {
    keepMs: 3,
    own: [
      { tenant: 'default', keepMs: 3 },
      { tenant: 'a', keepMs: 7 },
      { tenant: 'b', keepMs: 9 },
    ],
    finishedMax: 10,
  })
}) // prettier-ignore
