import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { chat, post, readMetric, startGateway, upstream } from '../../helpers/gateway.ts'
import { FakeUpstream, sendJson, wholeChat, type UpstreamRequest } from '../../helpers/upstream.ts'

/** A model server that answers when the test says so, and a gateway that lets two requests in. */
async function startSlow(admission: object, more: Record<string, unknown> = { slots: 2 }) {
  const held: (() => void)[] = []
  const behave = (_request: UpstreamRequest, response: Parameters<typeof sendJson>[0]) =>
    void held.push(() => sendJson(response, 200, wholeChat()))
  const slow = await FakeUpstream.start(behave)
  const gateway = await startGateway({
    upstreams: [upstream('a', slow.url, more)],
    admission: { concurrencyMin: 1, ...admission },
  })
  const ask = (signal = new AbortController().signal, headers = {}) =>
    post(gateway.url, '/v1/chat/completions', chat(), { signal, headers })
  const answerAll = () => {
    for (const answer of held.splice(0)) answer()
  }
  const stop = async () => {
    await gateway[Symbol.asyncDispose]()
    await slow.stop()
  }
  return { slow, gateway, ask, answerAll, [Symbol.asyncDispose]: stop }
}

/** Asks until as many wait as should: a scrape is a request, too, and needs no sleep in between. */
async function untilWaiting(url: string, count: number): Promise<void> {
  const series = 'autoglm_admission_waiting{model="m",tier="default"}'
  for (let scrapes = 0; (await readMetric(url, series)) !== count; scrapes += 1) {
    assert.ok(scrapes < 2_000, `never were there ${count} waiting`)
  }
}

test('over the wire: two are let in, two wait, the next gets 503 overloaded with Retry-After', async () => {
  await using server = await startSlow({ waitingMax: 2 })
  const { slow, gateway, ask, answerAll } = server
  const first = [ask(), ask()]
  await slow.until(({ active }) => active === 2)
  const waiting = [ask(), ask()]
  await untilWaiting(gateway.url, 2)
  assert.equal(slow.active, 2, 'the others have not reached the instance')

  const refused = await ask()
  assert.equal(refused.status, 503)
  assert.match(refused.headers.get('retry-after') ?? '', /^[1-9]\d*$/)
  const { error } = (await refused.json()) as { error: { code: string; message: string } }
  assert.equal(error.code, 'overloaded')
  assert.match(error.message, /`m`/)

  answerAll()
  await slow.until(({ requests }) => requests.length === 4)
  answerAll()
  const statuses = await Promise.all([...first, ...waiting].map(async (answer) => (await answer).status))
  assert.deepEqual(statuses, [200, 200, 200, 200])
  const count = (outcome: string) =>
    readMetric(gateway.url, `autoglm_admission_requests_total{model="m",tier="default",outcome="${outcome}"}`)
  assert.deepEqual([await count('admitted'), await count('rejected_full')], [4, 1])
})

test('over the wire: the longest wait, a deadline, and a client that hangs up in line', async () => {
  await using server = await startSlow({ waitMaxMs: 400 })
  const { slow, gateway, ask, answerAll } = server
  const first = [ask(), ask()]
  await slow.until(({ active }) => active === 2)
  const expired = await ask()
  assert.deepEqual([expired.status, ((await expired.json()) as { error: { code: string } }).error.code], [503, 'overloaded']) // prettier-ignore
  const late = await ask(undefined, { 'x-autoglm-timeout-ms': '100' })
  assert.equal(((await late.json()) as { error: { code: string } }).error.code, 'deadline_unreachable')

  const hangsUp = new AbortController()
  const gone = ask(hangsUp.signal).catch(() => 'gone')
  await untilWaiting(gateway.url, 1)
  hangsUp.abort()
  assert.equal(await gone, 'gone')
  await untilWaiting(gateway.url, 0)
  answerAll()
  for (const answer of first) assert.equal((await answer).status, 200)
  assert.equal(slow.requests.length, 2)
})

test('a server of which nobody has said what it can take is trusted until it slows down', async () => {
  await using house = await startSlow({ waitingMax: 0 }, {})
  const asked = Array.from({ length: 200 }, () => house.ask())
  await house.slow.until(({ active }) => active === 200)
  house.answerAll()
  for (const response of await Promise.all(asked)) assert.equal(response.status, 200)
})
