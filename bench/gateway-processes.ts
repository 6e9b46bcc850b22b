import { compareCpu, type Comparison, type Contender } from './compare-cpu.ts'
import { judgeCost, printCosts } from './cost-table.ts'
import type { Finding } from './finding.ts'
import { clients, prepareJson } from './json-contender.ts'
import { startLoad } from './load-client.ts'
import { modelName } from './payloads.ts'
import { cores, stopAll } from './processes.ts'
import { startGateway, startMockUpstream } from './proxies.ts'
import { median } from './statistics.ts'

const overOneMax = 1.25

/**
 * What a request costs with several gateway processes beside one, and how many are answered in a second. Nothing is
 * pinned. Clients and model server need a core for themselves as well, so the second figure says little where there
 * are fewer than four: what it costs to have several processes is the first.
 */
export async function benchGatewayProcesses({ quick }: { quick: boolean }): Promise<Finding[]> {
  console.log(
    `One chat completion as JSON with 1 and 2 gateway processes, ${clients} clients, nothing pinned`,
  )
  const upstream = await startMockUpstream(cores.any)
  const results = await compareCpu({
    load: await startLoad(cores.any),
    starters: [1, 2].map((processes) => () => prepare(upstream, processes)),
    passes: quick ? 1 : 3,
    roundsPerPass: quick ? 16 : 30,
  })
  await stopAll()
  printCosts('request', results, { heading: 'requests/s', cell: (result) => readRate(result).toFixed(0) })
  const [one, two] = results as [Comparison, Comparison]
  return [
    judgeCost({
      what: 'JSON request with 2 processes, CPU',
      ours: two,
      reference: one,
      ratioMax: overOneMax,
    }),
  ]
}

const readRate = ({ rounds }: Comparison) =>
  median(rounds.map(({ report }) => (report.completed / report.wallMs) * 1000))

async function prepare(upstream: string, processes: number): Promise<Contender> {
  const args = ['--upstream', `${upstream}/v1`, '--processes', String(processes)]
  const proxy = await startGateway({ args, model: modelName, core: cores.any })
  const name = `${processes} process${processes === 1 ? '' : 'es'}`
  const contender = await prepareJson({ ...proxy, name })
  return {
    ...contender,
    order: { ...contender.order, requests: 800 },
    warmUp: { ...contender.warmUp, requests: contender.warmUp.requests * processes },
  }
}
