import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { isLoopback, refuseOpenDoor } from '../../../src/gateway/auth/exposure.ts'
import { TestAccess } from '../../helpers/access.ts'
import { makeConfig } from '../../helpers/gateway.ts'

describe('an open door', () => {
  const table: [host: string, loopback: boolean][] = [
    ['127.0.0.1', true], ['127.8.9.1', true], ['localhost', true], ['LOCALHOST', true], ['::1', true],
    ['0.0.0.0', false], ['::', false], ['192.168.1.7', false], ['10.0.0.1', false], ['example.com', false],
    ['127.0.0.1.example.com', false], ['localhost.example.com', false], ['127.example.com', false],
  ] // prettier-ignore
  for (const [host, loopback] of table) {
    it(`${loopback ? 'is' : 'is not'} allowed at ${host}`, async () => {
      assert.equal(isLoopback(host), loopback)
      const open = await makeConfig({ server: { host } })
      const closed = await makeConfig({ server: { host }, auth: { required: true } })
      refuseOpenDoor(closed)
      if (loopback) refuseOpenDoor(open)
      else
        assert.throws(() => refuseOpenDoor(open), { name: 'SetupError', message: /--host 127\.0\.0\.1[^]*auth\.required: true[^]*key create --direct/ }) // prettier-ignore
    })
  }
})

it('tells whoever has named issuers that nobody is asked for a token', async () => {
  const env = { SHARED: 'x'.repeat(32) }
  const issuer = {
    issuer: 'https://id.example.com',
    audiences: ['a'],
    algorithms: ['HS256'],
    secretEnv: 'SHARED',
  }
  for (const [required, issuers, told] of [
    [false, [issuer], 1],
    [false, [], 0],
    [true, [issuer], 0],
  ] as const) {
    await using access = await TestAccess.open({ auth: { required, issuers } }, { env })
    const lines = access.log.filter((line) => line.includes('auth.issuers has no effect'))
    assert.equal(lines.length, told)
    assert.ok(lines.every((line) => line.includes(issuer.issuer) && line.includes('auth.required: true')))
  }
})
