import { startCachedGateway } from './cached-gateway.ts'
import { chat, post, upstream } from './gateway.ts'
import { answerChat, FakeUpstream, type Behaviour } from './upstream.ts'

export type Tree = Record<string, unknown>
type Headers = Record<string, string>

/** A chat that is deterministic, so that its answer may be kept. */
export const sure = (more: Tree = {}) => chat({ temperature: 0, ...more })

/** Answers each call with its number, so that a test sees which call an answer comes from. */
export const countCalls = (): Behaviour => {
  let calls = 0
  return (request, response, socket) => answerChat(['call ', String((calls += 1))])(request, response, socket)
}

/** Asks for a chat, and gives what tells where the answer came from. */
export async function ask(gateway: { url: string }, body: unknown, headers: Headers = {}) {
  const response = await post(gateway.url, '/v1/chat/completions', body, { headers })
  const text = await response.text()
  return {
    status: response.status,
    text,
    cache: response.headers.get('x-autoglm-cache'),
    age: response.headers.get('age'),
    headers: response.headers,
    call: Number(/call "?\D*(\d+)/.exec(text)?.[1] ?? NaN),
  }
}

/** A gateway with a cache before one fake instance. */
export const startCached = async (behave: Behaviour = countCalls(), tree: Tree = {}) => {
  const fake = await FakeUpstream.start(behave)
  const gateway = await startCachedGateway({ upstreams: [upstream('a', fake.url)], ...tree })
  const dispose = async () => {
    await gateway[Symbol.asyncDispose]()
    await fake.stop()
  }
  return { fake, gateway, [Symbol.asyncDispose]: dispose }
}
