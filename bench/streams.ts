import type { Finding } from './finding.ts'
import { startLoad, type Load } from './load-client.ts'
import { jsonRequest, jsonResponse, makeStreamRequest, modelName } from './payloads.ts'
import { readMemory } from './process-cost.ts'
import { cores, stopAll } from './processes.ts'
import { startGateway, startGatewayFor, startMockUpstream, writeConfig } from './proxies.ts'
import { mean, slope } from './statistics.ts'
import { formatMb, printTable } from './table.ts'

const limits = { residentBytesMax: 250e6, growthBytesMax: 10e6 }

const streams = 2_000
/** Slow enough that all have begun before the first one ends. */
const pace = { chunks: 20, intervalMs: 500 }
const endMark = 1

/** Whether memory stays within its bounds: many streams at once, and many requests one after another. */
export async function benchStreams({ quick }: { quick: boolean }): Promise<Finding[]> {
  const open = await benchOpenStreams()
  await stopAll()
  const flat = await benchManyRequests(quick ? 60_000 : 200_000)
  await stopAll()
  return [...open, flat]
}

async function benchOpenStreams(): Promise<Finding[]> {
  console.log(`${streams} streams open at once on one gateway process`)
  const upstream = await startMockUpstream()
  const load = await startLoad()
  // One upstream, which by default is given no more than 1,024 requests at once.
  const config = writeConfig('many-streams', {
    models: [],
    upstreams: [
      { name: 'mock', url: `${upstream}/v1`, models: { [modelName]: modelName }, inFlightMax: 4_096 },
    ],
  })
  const start = () => startGateway({ args: ['--config', config], model: modelName, core: cores.measured })
  // The first start of all compiles, and keeps the compiler: it fills the cache that later ones begin with.
  await (await start()).program.stop()
  const gateway = await start()
  const idle = readMemory(gateway.program.pid)
  const report = await load.run({
    url: `${gateway.origin}/v1/chat/completions`,
    headers: {},
    bodies: [makeStreamRequest(pace)],
    requests: streams,
    clients: streams,
    staggerMs: 1_000,
    expect: { events: pace.chunks + endMark },
  })
  const { peakBytes } = readMemory(gateway.program.pid)
  printTable(
    ['open at once', 'completed', 'failed', 'memory before', 'at its peak', 'a stream'],
    [
      [
        String(report.openPeak),
        String(report.completed),
        String(report.failed),
        formatMb(idle.residentBytes),
        formatMb(peakBytes),
        `${((peakBytes - idle.residentBytes) / streams / 1000).toFixed(0)} kB`,
      ],
    ],
  )
  return [
    {
      what: `${streams} streams at once`,
      figure: `${report.completed} completed`,
      reference: `${report.openPeak} open at once`,
      target: 'all',
      met: report.completed === streams && report.openPeak === streams,
    },
    {
      what: `${streams} streams, memory`,
      figure: formatMb(peakBytes),
      reference: `${formatMb(idle.residentBytes)} before`,
      target: `under ${formatMb(limits.residentBytesMax)}`,
      met: peakBytes < limits.residentBytesMax,
    },
  ]
}

async function benchManyRequests(requests: number): Promise<Finding> {
  console.log(`\n${requests} requests through one gateway process: its memory after each tenth`)
  const upstream = await startMockUpstream()
  const load = await startLoad()
  const gateway = await startGatewayFor(upstream)
  const samples: { x: number; y: number }[] = []
  const parts = 40
  for (let part = 1; part <= parts; part += 1) {
    await sendPart(load, gateway.origin, requests / parts)
    samples.push({ x: (requests / parts) * part, y: readMemory(gateway.program.pid).residentBytes })
  }
  const tenths = samples.filter((_, i) => (i + 1) % 4 === 0)
  printTable(
    ['requests', ...tenths.map(({ x }) => `${x / 1000}k`)],
    [['memory', ...tenths.map(({ y }) => formatMb(y))]],
  )
  // The first half fills caches and lets the compiler settle.
  const settled = samples.slice(parts / 2)
  const half = settled.length / 2
  const growthBytes =
    mean(settled.slice(half).map(({ y }) => y)) - mean(settled.slice(0, half).map(({ y }) => y))
  const slopeKb = (slope(settled) * 10_000) / 1000
  console.log(`  over the second half: ${slopeKb.toFixed(0)} kB more with every 10,000 requests`)
  return {
    what: `${requests} requests, memory`,
    figure: `${(growthBytes / 1e6).toFixed(1)} MB more`,
    reference: 'last quarter against the third',
    target: `flat (within ${formatMb(limits.growthBytesMax)})`,
    met: growthBytes < limits.growthBytesMax,
  }
}

async function sendPart(load: Load, origin: string, requests: number): Promise<void> {
  await load.run({
    url: `${origin}/v1/chat/completions`,
    headers: {},
    bodies: [jsonRequest],
    requests,
    clients: 32,
    expect: { bytes: Buffer.byteLength(jsonResponse) },
  })
}
