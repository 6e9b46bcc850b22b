import { compareCpu, type Comparison } from './compare-cpu.ts'
import { judgeCost, printCosts } from './cost-table.ts'
import type { Finding } from './finding.ts'
import { clients, prepareJson, roundsOf } from './json-contender.ts'
import { startLoad } from './load-client.ts'
import { jsonRequest, jsonResponse } from './payloads.ts'
import { stopAll } from './processes.ts'
import { startBareProxy, startGatewayFor, startMockUpstream } from './proxies.ts'
import { findNginx, startNginx } from './reference/nginx.ts'
import { installPortkey, portkeyName, startPortkey } from './reference/portkey.ts'
import { median, medianRatio } from './statistics.ts'
import { formatRatio, formatUs } from './table.ts'

const limits = { overBareMax: 1.35, portkeyOverOursMin: 15 }

/** What one JSON request costs the gateway, beside the bare proxy, Portkey and nginx. */
export async function benchJson({ quick }: { quick: boolean }): Promise<Finding[]> {
  console.log(`One chat completion as JSON: CPU time of the proxy a request, ${clients} clients`)
  console.log(
    `  body ${jsonRequest.length} bytes, answer ${jsonResponse.length} bytes; access log and metrics on`,
  )
  const upstream = await startMockUpstream()
  const starters = [
    startBareProxy,
    startGatewayFor,
    ...(installPortkey() ? [startPortkey] : []),
    ...(findNginx() ? [startNginx] : []),
  ]
  const results = await compareCpu({
    load: await startLoad(),
    starters: starters.map((start) => async () => {
      const proxy = await start(upstream)
      return prepareJson(proxy, { isSlow: proxy.name === portkeyName })
    }),
    ...roundsOf({ quick }),
  })
  await stopAll()

  printCosts('request', results, {
    heading: 'requests',
    cell: ({ rounds }) => String(rounds.reduce((sum, { report }) => sum + report.completed, 0)),
  })
  const [bare, ours, ...others] = results as [Comparison, Comparison, ...Comparison[]]
  const portkey = others.find(({ name }) => name === portkeyName)
  return [
    judgeCost({ what: 'JSON request, CPU', ours, reference: bare, ratioMax: limits.overBareMax }),
    ...(portkey ? [judgePortkey(ours, portkey)] : []),
  ]
}

function judgePortkey(ours: Comparison, portkey: Comparison): Finding {
  const ratio = medianRatio(portkey.costs, ours.costs)
  return {
    what: 'JSON request, CPU of Portkey',
    figure: formatUs(median(portkey.costs)),
    reference: `${formatRatio(ratio)} ${ours.name} (${formatUs(median(ours.costs))})`,
    target: `at least ${formatRatio(limits.portkeyOverOursMin)}`,
    met: ratio >= limits.portkeyOverOursMin,
  }
}
