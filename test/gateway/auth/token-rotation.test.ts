import { strict as assert } from 'node:assert'
import { describe, it, mock } from 'node:test'
import pino from 'pino'
import type { AccessWatch } from '../../../src/gateway/auth/access-watch.ts'
import { planTokenKeys, publishAheadMs } from '../../../src/gateway/auth/token-key-plan.ts'
import { TokenKeys } from '../../../src/gateway/auth/token-keys.ts'
import type { Store } from '../../../src/storage/store.ts'
import type { SecretRow } from '../../../src/storage/access-store.ts'
import { TestAccess } from '../../helpers/access.ts'
import { ManualClock } from '../../helpers/clock.ts'

const hour = 3_600_000
const rules = { tokenKeyMs: 10 * hour, tokenTtlMs: hour }
const key = (number: number, createdAtMs: number): SecretRow => ({
  ...{ kind: 'token', number, id: `k${number}`, algorithm: 'ES256', secret: '' },
  createdAtMs,
})
const plan = (keys: SecretRow[], nowMs: number) => {
  const { signWith, make, removeUpTo } = planTokenKeys(keys, rules, nowMs)
  return [signWith?.number ?? null, make, removeUpTo]
}

describe('the plan of token keys', () => {
  const start = 100 * hour
  const due = start + 10 * hour - publishAheadMs
  const both = [key(2, due), key(1, start)]
  const table: [name: string, keys: SecretRow[], atMs: number, then: (number | null)[]][] = [
    ['makes the first when there is none', [], start, [null, 1, 0]],
    ['signs with the first at once', [key(1, start)], start, [1, null, 0]],
    ['keeps it for its time', [key(1, start)], due - 1, [1, null, 0]],
    ['makes the next one ahead', [key(1, start)], due, [1, 2, 0]],
    ['does not sign with it before others know it', both, due + publishAheadMs - 1, [1, null, 0]],
    ['lets it take over in time', both, start + 10 * hour, [2, null, 0]],
    ['keeps the old one while its tokens are good', both, start + 11 * hour, [2, null, 0]],
    ['lets go of it after that', both, start + 11 * hour + 60_000, [2, null, 1]],
    ['signs with the old one after a night switched off', [key(1, start)], start + 50 * hour, [1, 2, 0]],
    ['goes on with a clock that went back', both, start - hour, [1, null, 0]],
  ]
  for (const [name, keys, atMs, then] of table) {
    it(name, () => assert.deepEqual(plan(keys, atMs), then))
  }
})

/** As it is for a server that hears of changes late. */
const withoutWakes = (store: Store) =>
  new Proxy(store, {
    get: (own, name) => (name === 'onWake' ? () => () => {} : (Reflect.get(own, name) as unknown)),
  })

describe('the keys that sign tokens', () => {
  const auth = { tokenKeyMs: hour, tokenTtlMs: 600_000 }

  it('change in time without breaking a token, on every server', async () => {
    const clock = new ManualClock()
    await using one = await TestAccess.open({ auth }, { clock })
    await using two = await TestAccess.open({ auth }, { clock, store: one.store })
    const made = await one.makeKey()
    const issue = () => one.parts.tokens.issue(made.key.id, { roles: null, ttlMs: null })
    const kidOf = (token: string) =>
      (JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()) as { kid: string }).kid
    const kids = new Set<string>()
    let last: string | null = null
    // Six hours in steps of five minutes: a token of each step is good on the other server, and so is the one before.
    for (let step = 0; step < 72; step += 1) {
      const { token } = await issue()
      kids.add(kidOf(token))
      assert.equal((await two.identify(token)).tenant, 'acme', `step ${step}`)
      if (last !== null)
        assert.equal((await two.identify(last)).tenant, 'acme', `step ${step}, the one before`)
      last = token
      assert.ok(one.parts.tokenKeys.published.length <= 3)
      clock.advance(300_000)
      await one.parts.watch.refresh()
      await two.parts.watch.refresh()
    }
    assert.ok(kids.size >= 6 && kids.size <= 8, `${kids.size} keys in six hours`)
    const published = new Set(two.parts.tokenKeys.published.map(({ kid }) => kid))
    assert.ok(published.has(kidOf(last!)))
  })

  it('are published before they sign', async () => {
    const clock = new ManualClock()
    await using access = await TestAccess.open({ auth }, { clock })
    const { key: owner } = await access.makeKey()
    const seen = new Map<string, number>()
    for (let minute = 0; minute < 180; minute += 1) {
      for (const { kid } of access.parts.tokenKeys.published) {
        if (!seen.has(kid!)) seen.set(kid!, clock.now())
      }
      const { token } = await access.parts.tokens.issue(owner.id, { roles: null, ttlMs: null })
      const { kid } = JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()) as { kid: string }
      const since = seen.get(kid)
      if (minute > 0) assert.ok(since !== undefined && (since === 0 || clock.now() - since >= publishAheadMs - 60_000))
      if (minute === 0) seen.set(kid, 0)
      clock.advance(60_000)
    }
    assert.ok(seen.size >= 3)
  }) // prettier-ignore

  it('sign tokens that are good where the clock is behind', async () => {
    const clock = new ManualClock()
    const behind = Object.assign(new ManualClock(), { wallMs: () => clock.wallMs() - 30_000 })
    await using one = await TestAccess.open({ auth }, { clock })
    await using two = await TestAccess.open({ auth }, { clock: behind, store: one.store })
    const { key: owner } = await one.makeKey()
    const { token } = await one.parts.tokens.issue(owner.id, { roles: null, ttlMs: null })
    await two.parts.watch.refresh()
    assert.equal((await two.identify(token)).tenant, 'acme')
  })

  it('are found by all who come with the first tokens to a server that has not heard of them', async () => {
    const clock = new ManualClock()
    await using one = await TestAccess.open({ auth }, { clock })
    await using two = await TestAccess.open({ auth }, { clock, store: withoutWakes(one.store) })
    const { key: owner } = await one.makeKey()
    await two.parts.watch.refresh()
    const issue = () => one.parts.tokens.issue(owner.id, { roles: null, ttlMs: null })
    const tokens = await Promise.all(Array.from({ length: 5 }, issue))
    const callers = await Promise.all(tokens.map(({ token }) => two.identify(token)))
    assert.deepEqual(new Set(callers.map(({ tenant }) => tenant)), new Set(['acme']))
  })

  it('end the refusal of a token that came before its key was known', async () => {
    const clock = new ManualClock()
    await using one = await TestAccess.open({ auth }, { clock })
    await using two = await TestAccess.open({ auth }, { clock, store: withoutWakes(one.store) })
    const { key: owner } = await one.makeKey()
    await two.parts.watch.refresh()
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const stranger = `${part({ alg: 'ES256', kid: 'x' })}.${part({ iss: 'open-autoglm' })}.AAAA`
    assert.match((await two.refusal(stranger)).message, /does not have/, 'so that it has just looked')
    const { token } = await one.parts.tokens.issue(owner.id, { roles: null, ttlMs: null })
    assert.match((await two.refusal(token)).message, /does not have/)
    await two.parts.watch.refresh()
    assert.equal((await two.identify(token)).tenant, 'acme')
  })

  it('are one and the same when two servers begin at once', async () => {
    await using one = await TestAccess.open({ auth })
    await using two = await TestAccess.open({ auth }, { store: one.store })
    const { key: owner } = await one.makeKey()
    await two.parts.watch.refresh()
    const issue = (access: TestAccess) => access.parts.tokens.issue(owner.id, { roles: null, ttlMs: null })
    const [a, b] = await Promise.all([issue(one), issue(two)])
    assert.equal((await two.identify(a.token)).tenant, 'acme')
    assert.equal((await one.identify(b.token)).tenant, 'acme')
    assert.equal((await one.store.access.listSecrets('token')).length, 1)
  })

  it('are never those of an earlier look that took longer', async () => {
    await using access = await TestAccess.open({ auth })
    const { key: owner } = await access.makeKey()
    await access.parts.tokens.issue(owner.id, { roles: null, ttlMs: null })
    const secrets = access.store.access
    const [row] = await secrets.listSecrets('token')
    const late = Promise.withResolvers<SecretRow[]>()
    const answers = [late.promise, Promise.resolve([{ ...row!, number: 2, id: 'next' }, row!])]
    const list = mock.method(secrets, 'listSecrets', () => answers[list.mock.callCount()])
    let look: () => Promise<void> = () => Promise.reject(new Error('nobody listens'))
    const watch = { listen: (to: { secrets: typeof look }) => (look = to.secrets) } as unknown as AccessWatch
    const log = pino({ level: 'silent' })
    const keys = new TokenKeys({ access: secrets, watch, clock: new ManualClock(), log, rules })
    const looks = [look(), look()]
    await new Promise(setImmediate)
    assert.equal(list.mock.callCount(), 1, 'the second look waits for the first')
    late.resolve([row!])
    await Promise.all(looks)
    list.mock.restore()
    assert.deepEqual(keys.published.map(({ kid }) => kid), ['next', row!.id])
  }) // prettier-ignore
})
