import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { compareCpu } from './compare-cpu.ts'
import { judgeCost, printCosts } from './cost-table.ts'
import type { Finding } from './finding.ts'
import { clients, prepareJson, roundsOf } from './json-contender.ts'
import { startLoad } from './load-client.ts'
import { modelName } from './payloads.ts'
import { cores, dataDir, stopAll } from './processes.ts'
import { startBareProxy, startGateway, startMockUpstream, writeConfig, type Proxy } from './proxies.ts'

const overBareMax = 1.6
const mainFile = join(import.meta.dirname, '..', 'src', 'main.ts')
/** Limits that are counted and never reached. */
const limits = { requestsPerMinute: 1e9, tokensPerMinute: 1e9, concurrentMax: 10_000 }

/** Each holds what the one before it does, and one thing more. */
const layers = [
  { name: 'router alone', config: { admission: { enabled: false }, limits: { dynamic: false } }, auth: false },
  { name: '+ admission', config: {}, auth: false },
  { name: '+ key', config: { auth: { required: true } }, auth: true },
  { name: '+ limits', config: { auth: { required: true }, tenants: { bench: limits } }, auth: true },
  { name: '+ budget', config: { auth: { required: true }, tenants: { bench: { ...limits, budgetPerDay: 1e9 } }, prices: { [modelName]: { input: 1, output: 2 } } }, auth: true },
] as const // prettier-ignore

/** What each layer in the way of a request costs, beside the bare proxy. */
export async function benchLayers({ quick }: { quick: boolean }): Promise<Finding[]> {
  console.log(`What authentication, limits and admission add to a JSON request: CPU time, ${clients} clients`)
  const upstream = await startMockUpstream()
  const starters = [
    () => startBareProxy(upstream),
    ...layers.map((layer, at) => () => startLayer(upstream, { ...layer, folder: `layer-${at}` })),
  ]
  const results = await compareCpu({
    load: await startLoad(),
    starters: starters.map((start) => async () => prepareJson(await start())),
    ...roundsOf({ quick }),
  })
  await stopAll()
  printCosts('request', results, {
    heading: 'requests',
    cell: ({ rounds }) => String(rounds.reduce((sum, { report }) => sum + report.completed, 0)),
  })
  const [bare, ...ours] = results
  const whole = ours.at(-1)
  if (!bare || !whole) return []
  return [
    judgeCost({
      what: 'JSON request with all layers, CPU',
      ours: whole,
      reference: bare,
      ratioMax: overBareMax,
    }),
  ]
}

async function startLayer(
  upstream: string,
  layer: { name: string; config: object; auth: boolean; folder: string },
): Promise<Proxy> {
  const { name, folder } = layer
  const config = { upstreams: [{ name: 'mock', url: `${upstream}/v1` }], ...layer.config }
  const headers = layer.auth ? { authorization: `Bearer ${makeKey(folder)}` } : {}
  const args = ['--config', writeConfig(folder, config)]
  const proxy = await startGateway({
    args,
    model: modelName,
    core: cores.measured,
    headers,
    dataFolder: folder,
  })
  return { ...proxy, name }
}

/** A key in the storage of a server that does not run yet. */
function makeKey(folder: string): string {
  const args = ['key', 'create', '--direct', '--data-dir', join(dataDir, folder), '--tenant', 'bench']
  const said = execFileSync(process.execPath, [mainFile, ...args, '--role', 'inference', '--json'])
  return (JSON.parse(said.toString()) as { key: string }).key
}
