import { strict as assert } from 'node:assert'
import { rm, mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { Server } from '../helpers/server.ts'
import { run } from './command.ts'

const config = {
  auth: { required: true },
  upstreams: [{ name: 'u', url: 'http://127.0.0.1:9/v1', models: { m: 'm' }, probe: 'off' }],
  tenants: { fixed: { weight: 7 } },
}
type Key = { id: string; key: string; status: string; tenant: string; roles: string[] }

describe('keys and tenants on the command line', () => {
  let folder: string
  let server: Server
  let admin: string
  const direct = (...args: string[]) => run([...args, '--direct'], { cwd: folder })
  const remote = (key: string, ...args: string[]) =>
    run(args, { cwd: folder, env: { AUTOGLM_URL: server.url, AUTOGLM_API_KEY: key } })

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'autoglm-cli-'))
    await writeFile(join(folder, 'autoglm.yaml'), JSON.stringify(config))
    const made = await direct('key', 'create', '--tenant', 'default', '--role', 'admin')
    assert.equal(made.code, 0, made.stderr)
    assert.match(made.stdout, /^sk-agm-\S+\n$/, 'nothing but the key')
    assert.match(made.stderr, /tenant default \(admin\); it does not expire\.\nKeep it now/)
    admin = made.stdout.trim()
    server = await Server.start({ folder })
  })
  after(async () => {
    await server[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true })
  })

  it('lets the first key in, and nobody without one', async () => {
    const ask = (headers: Record<string, string>) => fetch(`${server.url}/v1/models`, { headers })
    assert.equal((await ask({ authorization: `Bearer ${admin}` })).status, 200)
    const refused = await ask({})
    assert.equal(refused.status, 401)
    assert.match(refused.headers.get('www-authenticate') ?? '', /^Bearer realm=/)
    assert.equal((await fetch(`${server.url}/healthz`)).status !== 401, true)
    assert.doesNotMatch(server.stdout, /authentication is off/)
  })

  it('makes, lists and revokes keys through the server', async () => {
    const made = await remote(admin, 'key', 'create', '--tenant', 'acme', '--name', 'ci', '--role', 'read,tasks', '--expires', '90d', '--limit', 'requestsPerMinute=60', '--json')
    assert.equal(made.code, 0, made.stderr)
    const key = JSON.parse(made.stdout) as Key
    assert.deepEqual(key.roles, ['tasks', 'read'])
    const list = await remote(admin, 'key', 'list', '--tenant', 'acme')
    assert.match(list.stdout, new RegExp(`${key.id}\\s+acme\\s+ci\\s+active\\s+tasks,read`))
    assert.ok(!list.stdout.includes(key.key))
    const poor = await remote(key.key, 'key', 'list')
    assert.equal(poor.code, 1)
    assert.match(poor.stderr, /refuses the request: This needs the permission `admin`/)
    const revoked = await remote(admin, 'key', 'revoke', key.id)
    assert.equal(revoked.stdout, `${key.id} revoked\n`)
    assert.match((await remote(key.key, 'models')).stderr, /\(401\)/)
    const both = await remote(admin, 'key', 'revoke', key.id, '000000000000')
    assert.equal(both.code, 1)
    assert.match(both.stderr, /000000000000: .*no such key/)
  }) // prettier-ignore

  it('exchanges a key for a token that works', async () => {
    const made = await remote(admin, 'token', '--role', 'admin', '--expires', '2m')
    assert.match(made.stdout, /^eyJ[\w-]+\.[\w-]+\.[\w-]+\n$/)
    assert.equal((await remote(made.stdout.trim(), 'key', 'list')).code, 0)
    assert.equal(made.stderr, '')
    assert.match(
      (await remote(admin, 'token', '--expires', '1d')).stderr,
      /good for 900 s, as long as the server/,
    )
    const again = await remote(made.stdout.trim(), 'token')
    assert.match(again.stderr, /made from a key/)
  })

  it('sets, shows and forgets tenants through the server', async () => {
    const set = await remote(admin, 'tenant', 'set', 'acme', 'weight=2', 'models=[m]', 'budgetPerDay=1.5')
    assert.equal(set.stdout, 'acme: weight=2 models=["m"] budgetPerDay=1.5\n')
    const more = await remote(admin, 'tenant', 'set', 'acme', 'weight=3', 'models=')
    assert.equal(more.stdout, 'acme: weight=3 budgetPerDay=1.5\n', 'the others stay')
    assert.match((await remote(admin, 'tenant', 'show', 'acme')).stdout, /^acme \(stored\)\n {2}weight: 3\n/)
    const list = await remote(admin, 'tenant', 'list')
    assert.match(list.stdout, /acme {4}stored {2}weight=3 budgetPerDay=1\.5\nfixed {3}config {2}weight=7\n/)
    assert.match((await remote(admin, 'tenant', 'set', 'fixed', 'weight=1')).stderr, /configuration file/)
    assert.match((await remote(admin, 'tenant', 'set', 'acme', 'weight=0')).stderr, /a number above 0/)
    assert.match((await remote(admin, 'tenant', 'set', 'acme', 'wieght=1')).stderr, /is not a setting of a tenant/)
    assert.equal((await remote(admin, 'tenant', 'remove', 'acme')).code, 0)
    assert.match((await remote(admin, 'tenant', 'show', 'acme')).stderr, /nothing is said of the tenant acme/)
  }) // prettier-ignore

  it('keeps its hands off the storage of a server that runs', async () => {
    const refused = await direct('key', 'list')
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /in use by another server[^]*leave out --direct/)
  })

  it('says where it can go on without a server', async () => {
    const away = await run(['key', 'list', '--url', 'http://127.0.0.1:9'], { cwd: folder })
    assert.equal(away.code, 1)
    assert.match(away.stderr, /no server answers at http:\/\/127\.0\.0\.1:9 [^]*with --direct\n$/)
    const odd = await run(['key', 'list', '--data-dir', 'x'], { cwd: folder })
    assert.match(odd.stderr, /--data-dir is for --direct/)
    const none = await run(['token'], { cwd: folder })
    assert.match(none.stderr, /set AUTOGLM_API_KEY/)
  })
})

describe('keys and tenants without a server', () => {
  it('are the same', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'autoglm-cli-'))
    const direct = (...args: string[]) => run([...args, '--direct', '--data-dir', 'kept'], { cwd: folder })
    try {
      const made = JSON.parse((await direct('key', 'create', '--tenant', 'acme', '--json')).stdout) as Key
      assert.deepEqual(made.roles, ['inference', 'tasks', 'read'])
      assert.match((await direct('key', 'create', '--tenant', 'a b')).stderr, /`tenant` must be/)
      assert.match((await direct('key', 'create', '--tenant', 'a', '--role', 'root')).stderr, /`roles\[0\]` must be/)
      assert.match((await direct('key', 'create', '--tenant', 'a', '--expires', 'soon')).stderr, /--expires soon/)
      assert.equal((await direct('key', 'revoke', made.id)).stdout, `${made.id} revoked\n`)
      const { keys } = JSON.parse((await direct('key', 'list', '--json')).stdout) as { keys: Key[] }
      assert.deepEqual(keys.map(({ id, status }) => [id, status]), [[made.id, 'revoked']])
      assert.match((await direct('tenant', 'set', 'acme', 'weight=2')).stdout, /^acme: weight=2\n$/)
      assert.match((await direct('tenant', 'set', 'acme', 'requestsPerMinute=9')).stdout, /^acme: weight=2 requestsPerMinute=9\n$/)
      assert.match((await direct('tenant', 'remove', 'nobody')).stderr, /nothing is stored of the tenant nobody/)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }) // prettier-ignore

  it('are not needed to refuse an open door', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'autoglm-cli-'))
    try {
      const refused = await run(['serve', '--host', '0.0.0.0'], { cwd: folder })
      assert.equal(refused.code, 1)
      assert.match(refused.stderr, /^error: server\.host 0\.0\.0\.0 is reached from other machines/)
      assert.match(refused.stderr, /--host 127\.0\.0\.1[^]*auth\.required: true/)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })

  it('are asked for aloud by a server that has none', async () => {
    await using server = await Server.start({ config })
    await server.hears('stderr', /there is no key yet; make one, with the --config/)
  })
})
