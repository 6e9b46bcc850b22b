import type { Contender } from './compare-cpu.ts'
import { clientHeaders, jsonRequest, jsonResponse } from './payloads.ts'
import type { Proxy } from './proxies.ts'

export const clients = 32

/** Many passes with few rounds: two processes of one program differ by more than two rounds of one process. */
export const roundsOf = ({ quick }: { quick: boolean }) =>
  quick ? { passes: 3, roundsPerPass: 8 } : { passes: 9, roundsPerPass: 16 }

/** Looks at one whole answer first: the others must then have its length, which differs where JSON is written anew. */
export async function prepareJson(proxy: Proxy, { isSlow } = { isSlow: false }): Promise<Contender> {
  const url = `${proxy.origin}/v1/chat/completions`
  const headers = { ...clientHeaders, ...proxy.headers }
  const response = await fetch(url, { method: 'POST', headers, body: jsonRequest })
  const text = await response.text()
  const { choices: expected } = JSON.parse(jsonResponse) as { choices: [{ message: { content: string } }] }
  if (response.status !== 200 || !text.includes(JSON.stringify(expected[0].message.content))) {
    throw new Error(`${proxy.name} answered ${response.status}: ${text.slice(0, 200)}`)
  }
  const order = {
    url,
    headers: proxy.headers,
    bodies: [jsonRequest],
    requests: isSlow ? 64 : 400,
    clients,
    expect: { bytes: Buffer.byteLength(text) },
  }
  return { proxy, order, unitsPerRequest: 1, warmUp: { ...order, requests: isSlow ? 4_000 : 16_000 } }
}
