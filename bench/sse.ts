import { compareCpu, type Comparison, type Contender, type Round } from './compare-cpu.ts'
import { judgeCost, printCosts } from './cost-table.ts'
import type { Finding } from './finding.ts'
import { startLoad, type LoadOrder } from './load-client.ts'
import { makeStreamRequest } from './payloads.ts'
import { cores, stopAll } from './processes.ts'
import { startBareProxy, startGatewayFor, startMockUpstream, type Proxy } from './proxies.ts'
import { mean, median } from './statistics.ts'
import { formatMs, printTable } from './table.ts'

const limits = { overBareMax: 1.25, addedFirstChunkMsMax: 1, packetsPerEventMin: 0.95 }

const endMark = 1
const cost = { streams: 64, chunks: 100, intervalMs: 8 }
const delay = { streams: 50, chunks: 20, intervalMs: 25 }

/** What relaying a stream costs a chunk, and how much later its first chunk comes. */
export async function benchSse({ quick }: { quick: boolean }): Promise<Finding[]> {
  const chunkCost = await benchChunkCost(quick)
  await stopAll()
  const firstChunk = await benchFirstChunk(quick)
  await stopAll()
  return [chunkCost, firstChunk]
}

async function benchChunkCost(quick: boolean): Promise<Finding> {
  console.log(`A stream of ${cost.chunks} chunks: CPU time of the proxy a chunk`)
  console.log(`  ${cost.streams} streams at once, a chunk every ${cost.intervalMs} ms in each`)
  const upstream = await startMockUpstream()
  const prepare = (proxy: Proxy): Contender => {
    const order = makeOrder(proxy, { ...cost, requests: cost.streams })
    return { proxy, order, unitsPerRequest: cost.chunks, warmUp: warmUpFor(order, cost.chunks) }
  }
  const results = await compareCpu({
    load: await startLoad(),
    starters: [startBareProxy, startGatewayFor].map((start) => async () => prepare(await start(upstream))),
    passes: quick ? 2 : 7,
    roundsPerPass: 4,
  })
  const [bare, ours] = results as [Comparison, Comparison]
  printCosts('chunk', results, {
    heading: 'packets an event',
    cell: ({ rounds }) => packetsPerEvent(rounds).toFixed(2),
  })
  if (results.some(({ rounds }) => packetsPerEvent(rounds) < limits.packetsPerEventMin)) {
    console.log('  The machine was too busy: several chunks came in one packet, which makes them look cheap.')
  }
  return judgeCost({ what: 'SSE chunk, CPU', ours, reference: bare, ratioMax: limits.overBareMax })
}

/** How the events reached the clients: 1 is each in a packet of its own. */
function packetsPerEvent(rounds: readonly Round[]): number {
  return mean(rounds.map(({ report }) => report.reads / report.events))
}

async function benchFirstChunk(quick: boolean): Promise<Finding> {
  console.log(`\nTime to the first chunk with ${delay.streams} streams open`)
  // How soon a process runs is part of a delay: here the system may place all of them where there is room.
  const upstream = await startMockUpstream(cores.any)
  const load = await startLoad(cores.any)
  const bare = await startBareProxy(upstream, cores.any)
  const gateway = await startGatewayFor(upstream, cores.any)
  const requests = quick ? 100 : 200
  const routes = [
    { name: 'no proxy', order: makeOrder({ origin: upstream, headers: {} }, { ...delay, requests }) },
    { name: bare.name, order: makeOrder(bare, { ...delay, requests }) },
    { name: gateway.name, order: makeOrder(gateway, { ...delay, requests }) },
  ]
  for (const { order } of routes) await load.run(warmUpFor(order, delay.chunks))
  for (const { order } of routes) await load.run(order)
  const times = routes.map((): { p50: number; p99: number }[] => [])
  const rounds = quick ? 4 : 8
  for (let round = 0; round < rounds; round += 1) {
    for (const [i, { order }] of routes.entries()) times[i]?.push((await load.run(order)).firstByteMs)
  }
  const direct = times[0] ?? []
  const added = times.map((own) => median(own.map(({ p50 }, i) => p50 - (direct[i]?.p50 ?? 0))))
  printTable(
    ['route', 'median', 'added', 'p99'],
    routes.map(({ name }, i) => {
      const own = times[i] ?? []
      const p50 = median(own.map((time) => time.p50))
      return [name, formatMs(p50), formatMs(added[i] ?? 0), formatMs(median(own.map((time) => time.p99)))]
    }),
  )
  const [, bareMs = Number.NaN, ours = Number.NaN] = added
  if (bareMs > limits.addedFirstChunkMsMax) {
    console.log('  The machine was too busy: even the bare proxy adds more than the target allows.')
  }
  return {
    what: `time to first chunk, ${delay.streams} streams`,
    figure: `${formatMs(ours)} added`,
    reference: `the bare proxy adds ${formatMs(bareMs)}`,
    target: `under ${formatMs(limits.addedFirstChunkMsMax)}`,
    met: ours < limits.addedFirstChunkMsMax,
  }
}

/** The same streams without a pause: as many as there must be until Node has compiled what a stream needs. */
const warmUpFor = (order: LoadOrder, chunks: number): LoadOrder => ({
  ...order,
  ...{ bodies: [makeStreamRequest({ chunks, intervalMs: 0 })], requests: 4_000, staggerMs: 0, pauseMsMax: 0 },
})

type Shape = { streams: number; chunks: number; intervalMs: number; requests: number }

function makeOrder({ origin, headers }: Pick<Proxy, 'origin' | 'headers'>, shape: Shape): LoadOrder {
  return {
    url: `${origin}/v1/chat/completions`,
    headers,
    bodies: [makeStreamRequest(shape)],
    requests: shape.requests,
    clients: shape.streams,
    staggerMs: shape.chunks * shape.intervalMs,
    pauseMsMax: shape.intervalMs * 2,
    expect: { events: shape.chunks + endMark },
  }
}
