import { cpus, loadavg } from 'node:os'
import { benchEngine } from './engine.ts'
import { benchFairness } from './fairness.ts'
import { printFindings, type Finding } from './finding.ts'
import { benchGatewayProcesses } from './gateway-processes.ts'
import { benchJson } from './json.ts'
import { benchLayers } from './layers.ts'
import { benchOverload } from './overload.ts'
import { benchPostgresQueue } from './postgres-queue.ts'
import { canPin, closeForGood, cores, stopAll } from './processes.ts'
import { benchSse } from './sse.ts'
import { benchStorage } from './storage.ts'
import { benchStreams } from './streams.ts'
import { benchSubmissions } from './submissions.ts'
import { benchValley } from './valley.ts'

/**
 * `npm run bench` runs all, `node bench/main.ts json sse` those named, `--quick` with fewer requests. A missed target
 * is printed, and is no failure: figures depend on the machine, the tests do not.
 */

type Benchmark = (options: { quick: boolean }) => Promise<Finding[]>

const benchmarks: Record<string, Benchmark> = {
  json: benchJson,
  layers: benchLayers,
  sse: benchSse,
  streams: benchStreams,
  processes: benchGatewayProcesses,
  engine: benchEngine,
  policies: benchPolicies,
  storage: benchStorage,
  submissions: benchSubmissions,
  postgres: benchPostgresQueue,
  fairness: benchFairness,
  valley: benchValley,
  overload: benchOverload,
}

let interrupted = false

async function benchPolicies(): Promise<Finding[]> {
  const { runPolicyBench } = await import('./policies.ts')
  return runPolicyBench()
}

function describeMachine(): string {
  const pinning = canPin
    ? `proxy on core ${cores.measured}, clients and upstream on core ${cores.load} (taskset)`
    : 'processes not pinned to cores'
  const others = loadavg()[0] ?? 0
  return `${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version}, load ${others.toFixed(1)} before the start; ${pinning}`
}

async function main(args: readonly string[]): Promise<void> {
  const quick = args.includes('--quick')
  const named = args.filter((arg) => !arg.startsWith('--'))
  const unknown = named.filter((name) => !(name in benchmarks))
  if (unknown.length > 0) {
    throw new Error(
      `no benchmark is called ${unknown.join(', ')}; there are ${Object.keys(benchmarks).join(', ')}`,
    )
  }
  console.log(describeMachine())
  const findings: Finding[] = []
  for (const [name, run] of Object.entries(benchmarks)) {
    if (named.length > 0 && !named.includes(name)) continue
    console.log('')
    try {
      findings.push(...(await run({ quick })))
    } catch (error) {
      if (interrupted) return
      findings.push({
        what: name,
        figure: 'failed',
        reference: (error as Error).message,
        target: '',
        met: false,
      })
    }
    await stopAll()
  }
  console.log('\nSummary')
  printFindings(findings)
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (interrupted) process.exit(130)
    interrupted = true
    void closeForGood().finally(() => process.exit(130))
  })
}

try {
  await main(process.argv.slice(2))
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}
