import { compareCpu, type Contender } from './compare-cpu.ts'
import type { Finding } from './finding.ts'
import { startLoad } from './load-client.ts'
import { jsonRequest, jsonResponse } from './payloads.ts'
import { stopAll } from './processes.ts'
import {
  bareName,
  gatewayName,
  startBareProxy,
  startGatewayFor,
  startMockUpstream,
  type Proxy,
} from './proxies.ts'
import { startNginx } from './reference/nginx.ts'
import { portkeyName, startPortkey } from './reference/portkey.ts'
import { median, medianRatio } from './statistics.ts'
import { formatRatio, formatUs, printTable } from './table.ts'

const limits = { overBareMax: 1.35, portkeyOverOursMin: 15 }
const clients = 32

/** What one JSON request costs the gateway, beside the bare proxy, Portkey and nginx. */
export async function benchJson({ quick }: { quick: boolean }): Promise<Finding[]> {
  console.log(`One chat completion as JSON: CPU time of the proxy a request, ${clients} clients`)
  console.log(
    `  body ${jsonRequest.length} bytes, answer ${jsonResponse.length} bytes; access log and metrics on`,
  )
  const upstream = await startMockUpstream()
  const load = await startLoad()
  const proxies = [
    await startBareProxy(upstream),
    await startGatewayFor(upstream),
    await startPortkey(upstream),
    await startNginx(upstream),
  ].filter((proxy) => proxy !== null)
  const contenders: Contender[] = []
  for (const proxy of proxies) contenders.push(await prepare(proxy, quick))
  const rounds = await compareCpu(load, contenders, quick ? 5 : 11)
  await stopAll()

  const costs = new Map(
    proxies.map(({ name }, i) => [name, (rounds[i] ?? []).map((round) => round.cpuUsPerUnit)]),
  )
  const bare = costs.get(bareName) ?? []
  printTable(
    ['proxy', 'CPU a request', 'to bare', 'lowest', 'highest', 'requests'],
    proxies.map(({ name }, i) => {
      const own = costs.get(name) ?? []
      const requests = (rounds[i] ?? []).reduce((sum, { report }) => sum + report.completed, 0)
      return [
        name,
        formatUs(median(own)),
        formatRatio(medianRatio(own, bare)),
        formatUs(Math.min(...own)),
        formatUs(Math.max(...own)),
        String(requests),
      ]
    }),
  )
  return judge(costs)
}

function judge(costs: ReadonlyMap<string, number[]>): Finding[] {
  const ours = costs.get(gatewayName) ?? []
  const bare = costs.get(bareName) ?? []
  const portkey = costs.get(portkeyName)
  const overBare = medianRatio(ours, bare)
  const findings = [
    {
      what: 'JSON request, CPU',
      figure: formatUs(median(ours)),
      reference: `${formatRatio(overBare)} the bare proxy (${formatUs(median(bare))})`,
      target: `at most ${formatRatio(limits.overBareMax)}`,
      met: overBare <= limits.overBareMax,
    },
  ]
  if (!portkey) return findings
  const portkeyOverOurs = medianRatio(portkey, ours)
  const finding = {
    what: 'JSON request, CPU saved',
    figure: formatUs(median(ours)),
    reference: `Portkey takes ${formatRatio(portkeyOverOurs)} (${formatUs(median(portkey))})`,
    target: `at least ${formatRatio(limits.portkeyOverOursMin)}`,
    met: portkeyOverOurs >= limits.portkeyOverOursMin,
  }
  return [...findings, finding]
}

/** Looks at one whole answer first: the others must then have its length, which differs where JSON is written anew. */
async function prepare(proxy: Proxy, quick: boolean): Promise<Contender> {
  const url = `${proxy.origin}/v1/chat/completions`
  const headers = { 'content-type': 'application/json', ...proxy.headers }
  const response = await fetch(url, { method: 'POST', headers, body: jsonRequest })
  const text = await response.text()
  const { choices: expected } = JSON.parse(jsonResponse) as { choices: [{ message: { content: string } }] }
  if (response.status !== 200 || !text.includes(JSON.stringify(expected[0].message.content))) {
    throw new Error(`${proxy.name} answered ${response.status}: ${text.slice(0, 200)}`)
  }
  const slow = proxy.name === portkeyName
  const requests = (slow ? 300 : 4_000) / (quick ? 2 : 1)
  return {
    proxy,
    order: {
      url,
      headers: proxy.headers,
      bodies: [jsonRequest],
      requests,
      clients,
      expect: { bytes: Buffer.byteLength(text) },
    },
    unitsPerRequest: 1,
    warmUpRequests: slow ? 1_200 : 8_000,
  }
}
