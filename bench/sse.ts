import { compareCpu, type Contender, type Round } from './compare-cpu.ts'
import type { Finding } from './finding.ts'
import { startLoad, type Load, type LoadOrder } from './load-client.ts'
import { makeStreamRequest } from './payloads.ts'
import { stopAll } from './processes.ts'
import { startBareProxy, startGatewayFor, startMockUpstream, type Proxy } from './proxies.ts'
import { mean, median, medianRatio } from './statistics.ts'
import { formatMs, formatRatio, formatUs, printTable } from './table.ts'

const limits = { overBareMax: 1.25, addedFirstChunkMsMax: 1, readsPerEventMin: 0.95 }

const endMark = 1
const cost = { streams: 64, chunks: 100, intervalMs: 8 }
const delay = { streams: 50, chunks: 20, intervalMs: 10 }

/** What relaying a stream costs a chunk, and how much later its first chunk comes. */
export async function benchSse({ quick }: { quick: boolean }): Promise<Finding[]> {
  const upstream = await startMockUpstream()
  const load = await startLoad()
  const bare = await startBareProxy(upstream)
  const gateway = await startGatewayFor(upstream)
  const findings = [
    await benchChunkCost({ load, bare, gateway, quick }),
    await benchFirstChunk({ load, upstream, bare, gateway, quick }),
  ]
  await stopAll()
  return findings
}

type Parts = { load: Load; bare: Proxy; gateway: Proxy; quick: boolean }

async function benchChunkCost({ load, bare, gateway, quick }: Parts): Promise<Finding> {
  console.log(`A stream of ${cost.chunks} chunks: CPU time of the proxy a chunk`)
  console.log(`  ${cost.streams} streams at once, a chunk every ${cost.intervalMs} ms in each`)
  const contenders = [bare, gateway].map((proxy): Contender => {
    const order = makeOrder(proxy, { ...cost, requests: cost.streams })
    return { proxy, order, unitsPerRequest: cost.chunks, warmUpRequests: cost.streams * 2 }
  })
  const [bareRounds = [], ourRounds = []] = await compareCpu(load, contenders, quick ? 6 : 12)
  const bareCosts = bareRounds.map((round) => round.cpuUsPerUnit)
  const ourCosts = ourRounds.map((round) => round.cpuUsPerUnit)
  const ratio = medianRatio(ourCosts, bareCosts)
  const reads = { bare: readsPerEvent(bareRounds), ours: readsPerEvent(ourRounds) }
  printTable(
    ['proxy', 'CPU a chunk', 'to bare', 'lowest', 'highest', 'packets an event'],
    [
      [bare.name, formatUs(median(bareCosts)), formatRatio(1), ...range(bareCosts), reads.bare.toFixed(2)],
      [
        gateway.name,
        formatUs(median(ourCosts)),
        formatRatio(ratio),
        ...range(ourCosts),
        reads.ours.toFixed(2),
      ],
    ],
  )
  if (Math.min(reads.bare, reads.ours) < limits.readsPerEventMin) {
    console.log(
      '  The machine was too busy: chunks arrived several in one packet, which makes them look cheap.',
    )
  }
  return {
    what: 'SSE chunk, CPU',
    figure: formatUs(median(ourCosts)),
    reference: `${formatRatio(ratio)} the bare proxy (${formatUs(median(bareCosts))})`,
    target: `at most ${formatRatio(limits.overBareMax)}`,
    met: ratio <= limits.overBareMax,
  }
}

/** How the events reached the clients: 1 is each in a packet of its own. */
function readsPerEvent(rounds: readonly Round[]): number {
  return mean(rounds.map(({ report }) => report.reads / report.events))
}

async function benchFirstChunk({
  load,
  upstream,
  bare,
  gateway,
  quick,
}: Parts & { upstream: string }): Promise<Finding> {
  console.log(`\nTime to the first chunk with ${delay.streams} streams open`)
  const requests = quick ? 200 : 400
  const routes = [
    { name: 'no proxy', order: makeOrder({ origin: upstream, headers: {} }, { ...delay, requests }) },
    { name: bare.name, order: makeOrder(bare, { ...delay, requests }) },
    { name: gateway.name, order: makeOrder(gateway, { ...delay, requests }) },
  ]
  const times = routes.map((): { p50: number; p99: number }[] => [])
  const rounds = quick ? 5 : 9
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
  const ours = added[2] ?? Number.NaN
  return {
    what: `time to first chunk, ${delay.streams} streams`,
    figure: `${formatMs(ours)} added`,
    reference: `the bare proxy adds ${formatMs(added[1] ?? 0)}`,
    target: `under ${formatMs(limits.addedFirstChunkMsMax)}`,
    met: ours < limits.addedFirstChunkMsMax,
  }
}

type Shape = { streams: number; chunks: number; intervalMs: number; requests: number }

function makeOrder({ origin, headers }: Pick<Proxy, 'origin' | 'headers'>, shape: Shape): LoadOrder {
  return {
    url: `${origin}/v1/chat/completions`,
    headers,
    bodies: [makeStreamRequest(shape)],
    requests: shape.requests,
    clients: shape.streams,
    staggerMs: shape.chunks * shape.intervalMs,
    expect: { events: shape.chunks + endMark },
  }
}

function range(values: readonly number[]): [string, string] {
  return [formatUs(Math.min(...values)), formatUs(Math.max(...values))]
}
