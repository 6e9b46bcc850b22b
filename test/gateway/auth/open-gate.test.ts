import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { ApiError } from '../../../src/core/errors.ts'
import { makeOpenGate } from '../../../src/gateway/auth/open-gate.ts'

const ours = [
  ...['127.0.0.1:8080', '127.0.0.1', '10.0.0.7:80', '[::1]:8080', '[fe80::1]', 'localhost:8080', 'LOCALHOST'],
  ...['a.localhost:1', 'gateway', 'gateway:8080', 'models.example.com', 'Models.Example.COM:443', ''],
]
const foreign = [
  ...[
    'rebound.evil.example',
    'evil.example:8080',
    '127.0.0.1.evil.example',
    'localhost.evil.example',
    'a.b.',
  ],
  ...['models.example.com.evil.example', '1.2.3.4.5', '127.0.0.1:8080.evil.example'],
]

describe('a server without authentication', () => {
  for (const host of ours) {
    it(`is ours as ${JSON.stringify(host)}`, () => {
      assert.equal(
        makeOpenGate(['models.example.com']).identify({ headers: { host } }) instanceof Promise,
        false,
      )
    })
  }
  for (const host of foreign) {
    it(`is not known as ${JSON.stringify(host)}, whoever called before`, () => {
      const gate = makeOpenGate(['models.example.com'])
      assert.ok(gate.identify({ headers: { host: 'localhost' } }))
      assert.throws(
        () => gate.identify({ headers: { host } }),
        (error) => error instanceof ApiError && error.code === 'forbidden' && error.param === 'host',
      )
    })
  }
})
