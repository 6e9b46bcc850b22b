import { policyFactories } from '../src/router/policies/table.ts'
import type { Finding } from './finding.ts'
import { seedRandom } from './simulation/random.ts'
import { scenarios, type Scenario } from './simulation/scenarios.ts'
import { quantile, simulateFleet } from './simulation/simulate.ts'
import { readTrace, retime, tracePath, type TracedRequest } from './simulation/trace.ts'
import { variants, type Variant } from './simulation/variants.ts'
import { formatRatio, printTable } from './table.ts'

/**
 * The routing policies over a simulated fleet and an hour of recorded conversations. Seeded: it prints the same
 * figures on every machine. `node bench/policies.ts` shows each policy beside round robin,
 * `node bench/policies.ts --variants` what else was tried for `peak_ewma` and `prefix`.
 */

const seeds = [1, 2, 3]

type Figures = {
  name: string
  p50Ms: number
  p99Ms: number
  cachedShare: number
  prefillShare: number
  sequencesShare: number
}

const policies: readonly Variant[] = (
  ['round_robin', 'weighted', 'least_conn', 'session', 'peak_ewma', 'prefix'] as const
).map((name) => ({ name, create: policyFactories[name] }))

/** Prints a table for each scenario; returns whether `peak_ewma` and `prefix` earn their place. */
export async function runPolicyBench(contenders: readonly Variant[] = policies): Promise<Finding[]> {
  const trace = readTrace()
  if (trace === null) {
    console.log(`SKIPPED: the routing policies are not measured, ${tracePath} is not there`)
    return []
  }
  console.log(
    `Routing policies: 8 simulated instances, ${trace.length} requests, mean of seeds ${seeds.join(', ')}; ` +
      'time to first token',
  )
  const baseline: Variant = { name: 'round_robin', create: policyFactories.round_robin }
  const all = contenders.some(({ name }) => name === baseline.name) ? contenders : [baseline, ...contenders]
  const findings: Finding[] = []
  for (const scenario of scenarios) {
    const figures = all.map((variant) => measure(variant, scenario, trace))
    printScenario(scenario, figures)
    if (contenders === policies) findings.push(...judge(scenario, figures))
    // Lets a signal in between two scenarios.
    await new Promise(setImmediate)
  }
  return findings
}

function measure(variant: Variant, scenario: Scenario, trace: readonly TracedRequest[]): Figures {
  const figures = {
    name: variant.name,
    p50Ms: 0,
    p99Ms: 0,
    cachedShare: 0,
    prefillShare: 0,
    sequencesShare: 0,
  }
  for (const seed of seeds) {
    // Of its own for the traffic: all policies then meet the very same requests.
    const trafficRandom = seedRandom(seed)
    const { speedup, streamedShare, instances, changes } = scenario
    const requests = retime(trace, { speedup, streamedShare, random: trafficRandom }).map((request) =>
      scenario.reshape(request, trafficRandom),
    )
    const result = simulateFleet({
      policy: variant.create(),
      requests,
      instances,
      changes,
      random: seedRandom(1000 + seed),
      ...(variant.observe ? { observe: variant.observe } : {}),
    })
    figures.p50Ms += quantile(result.ttftMs, 0.5) / seeds.length
    figures.p99Ms += quantile(result.ttftMs, 0.99) / seeds.length
    figures.cachedShare += result.cachedShare / seeds.length
    figures.prefillShare += result.prefillShare / seeds.length
    figures.sequencesShare += result.sequencesShare / seeds.length
  }
  return figures
}

function printScenario(scenario: Scenario, figures: readonly Figures[]): void {
  const baseline = figures[0]!
  console.log(`\n  ${scenario.name} (prompts ${scenario.speedup}× as fast as recorded)`)
  printTable(
    ['policy', 'p50', '', 'p99', '', 'cached', '', 'prefill busy', 'sequences busy'],
    figures.map((row) => [
      row.name,
      formatTtft(row.p50Ms),
      formatRatio(row.p50Ms / baseline.p50Ms),
      formatTtft(row.p99Ms),
      formatRatio(row.p99Ms / baseline.p99Ms),
      formatShare(row.cachedShare),
      formatRatio(row.cachedShare / baseline.cachedShare),
      formatShare(row.prefillShare),
      formatShare(row.sequencesShare),
    ]),
  )
}

/** Each of the two must beat the best of those that are simpler than it. */
function judge(scenario: Scenario, figures: readonly Figures[]): Finding[] {
  const of = (name: string) => figures.find((row) => row.name === name)!
  const simple = ['round_robin', 'weighted', 'least_conn'].map(of)
  const bestP50 = simple.reduce((best, row) => (row.p50Ms < best.p50Ms ? row : best))
  const bestP99 = simple.reduce((best, row) => (row.p99Ms < best.p99Ms ? row : best))
  const peakEwma = of('peak_ewma')
  const prefix = of('prefix')
  return [
    compare(`peak_ewma, p50 TTFT, ${scenario.name}`, peakEwma.p50Ms, bestP50.p50Ms, bestP50.name),
    compare(`peak_ewma, p99 TTFT, ${scenario.name}`, peakEwma.p99Ms, bestP99.p99Ms, bestP99.name),
    compare(`prefix, p50 TTFT, ${scenario.name}`, prefix.p50Ms, peakEwma.p50Ms, 'peak_ewma'),
    compare(`prefix, p99 TTFT, ${scenario.name}`, prefix.p99Ms, peakEwma.p99Ms, 'peak_ewma'),
  ]
}

function compare(what: string, ms: number, referenceMs: number, referenceName: string): Finding {
  return {
    what,
    figure: formatTtft(ms),
    reference: `${formatRatio(ms / referenceMs)} ${referenceName} (${formatTtft(referenceMs)})`,
    target: 'below 1×',
    met: ms < referenceMs,
  }
}

const formatTtft = (ms: number) => `${(ms / 1000).toFixed(2)} s`
const formatShare = (share: number) => `${(share * 100).toFixed(1)} %`

if (import.meta.main) await runPolicyBench(process.argv.includes('--variants') ? variants : policies)
