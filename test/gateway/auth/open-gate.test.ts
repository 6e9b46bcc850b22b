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

const server = { hosts: ['models.example.com'], corsOrigins: ['https://app.example.com'] }

describe('a server without authentication', () => {
  for (const host of ours) {
    it(`is ours as ${JSON.stringify(host)}`, () => {
      assert.equal(
        makeOpenGate(server.hosts, server).identify({ headers: { host } }) instanceof Promise,
        false,
      )
    })
  }
  for (const host of foreign) {
    it(`is not known as ${JSON.stringify(host)}, whoever called before`, () => {
      const gate = makeOpenGate(server.hosts, server)
      assert.ok(gate.identify({ headers: { host: 'localhost' } }))
      assert.throws(
        () => gate.identify({ headers: { host } }),
        (error) => error instanceof ApiError && error.code === 'forbidden' && error.param === 'host',
      )
    })
  }

  const pages: [origin: string, host: string, mayCall: boolean][] = [
    ['http://127.0.0.1:8080', '127.0.0.1:8080', true],
    ['http://localhost:8080', 'LOCALHOST:8080', true],
    ['https://gateway', 'gateway', true],
    ['https://models.example.com', '10.0.0.7:8080', true],
    ['https://app.example.com', '127.0.0.1:8080', true],
    ['chrome-extension://abc', '127.0.0.1:8080', true],
    ['https://evil.example', '127.0.0.1:8080', false],
    ['http://127.0.0.1:3000', '127.0.0.1:8080', false],
    ['http://127.0.0.1:8080.evil.example', '127.0.0.1:8080', false],
    ['https://app.example.com.evil.example', '127.0.0.1:8080', false],
    ['http://[', '127.0.0.1:8080', false],
    ['null', '127.0.0.1:8080', false],
  ]
  for (const [origin, host, mayCall] of pages) {
    it(`is ${mayCall ? 'called' : 'not called'} as ${host} by a page of ${origin}`, () => {
      const ask = () => makeOpenGate(server.hosts, server).identify({ headers: { host, origin } })
      if (mayCall) assert.ok(ask())
      else assert.throws(ask, { code: 'forbidden', param: 'origin', message: /server\.corsOrigins/ })
    })
  }

  it('is called by whatever page, where all are named', () => {
    const gate = makeOpenGate([], { corsOrigins: ['*'] })
    for (const origin of ['null', 'https://evil.example']) {
      assert.ok(gate.identify({ headers: { host: 'localhost', origin } }))
    }
  })
})
