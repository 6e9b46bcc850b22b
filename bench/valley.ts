import type { Finding } from './finding.ts'
import { azureTracePath, readAzureTrace } from './simulation/azure-trace.ts'
import { seedRandom } from './simulation/random.ts'
import { quantile } from './simulation/simulate.ts'
import { simulateValley, type ValleyOptions, type ValleyResult } from './simulation/simulate-valley.ts'
import { formatRatio, printTable } from './table.ts'

/**
 * What an endless backlog of tasks does to live requests, on a simulated fleet and a recorded hour of a code assistant.
 * Seeded: it prints the same figures on every machine.
 */

/** So many that live requests alone do not wait for one another but in bursts: there is a latency to spoil. */
const instances = 16
const seeds = [1, 2]
/** The first is what the targets are for; the other is a busier hour. */
const speedups = [2, 4] as const
const ttftTarget = 1.1
const busyTarget = 0.9

type Figures = { name: string; p50Ms: number; p99Ms: number } & Omit<ValleyResult, 'ttftMs'>

const rows = [
  { name: 'live alone', tasks: 'off' },
  { name: 'tasks in all that the reserve leaves', tasks: 'fill' },
  { name: 'tasks as live latency allows', tasks: 'valley' },
] as const

export async function benchValley({ quick }: { quick: boolean }): Promise<Finding[]> {
  const used = quick ? seeds.slice(0, 1) : seeds
  const findings: Finding[] = []
  for (const speedup of speedups) {
    const live = readAzureTrace(speedup)
    if (live === null) {
      console.log(`SKIPPED: the filling of valleys is not measured, ${azureTracePath} is not there`)
      return []
    }
    console.log(
      `\nValley filling: ${instances} simulated instances, ${live.length} live requests ${speedup}× as fast as recorded, ` +
        `endless tasks, mean of seeds ${used.join(', ')}; time to first token of live requests`,
    )
    const figures = rows.map(({ name, tasks }) => measure(name, { live, tasks }, used))
    print(figures)
    if (speedup === speedups[0]) findings.push(...judge(figures[0]!, figures[2]!))
    // Lets a signal in between two.
    await new Promise(setImmediate)
  }
  return findings
}

function measure(
  name: string,
  what: Pick<ValleyOptions, 'live' | 'tasks'>,
  seeds: readonly number[],
): Figures {
  const sum = { p50Ms: 0, p99Ms: 0, busyShare: 0, slotsShare: 0, tasksPerSecond: 0, taskTokensPerSecond: 0 }
  for (const seed of seeds) {
    const draw = seedRandom(seed)
    // Documents to be read and summed up: prompts of 100 to 2,000 tokens, answers of 50 to 400.
    const nextTask = () => ({
      inputTokens: Math.ceil(100 * 20 ** draw()),
      outputTokens: Math.ceil(50 * 8 ** draw()),
    })
    const { ttftMs, ...rest } = simulateValley({
      ...{ ...what, nextTask, instances, reserve: 0.25, concurrencyMax: 10_000 },
      random: seedRandom(1000 + seed),
    })
    const run = { p50Ms: quantile(ttftMs, 0.5), p99Ms: quantile(ttftMs, 0.99), ...rest }
    for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += run[key] / seeds.length
  }
  return { name, ...sum }
}

function print(figures: readonly Figures[]): void {
  const alone = figures[0]!
  printTable(
    ['', 'p50', '', 'p99', '', 'busy', 'slots', 'tasks/s', 'their tokens/s'],
    figures.map((row) => [
      row.name,
      `${row.p50Ms.toFixed(0)} ms`,
      formatRatio(row.p50Ms / alone.p50Ms),
      `${row.p99Ms.toFixed(0)} ms`,
      formatRatio(row.p99Ms / alone.p99Ms),
      `${(row.busyShare * 100).toFixed(1)} %`,
      `${(row.slotsShare * 100).toFixed(1)} %`,
      row.tasksPerSecond.toFixed(1),
      row.taskTokensPerSecond.toFixed(0),
    ]),
  )
}

function judge(alone: Figures, filled: Figures): Finding[] {
  const ratio = filled.p99Ms / alone.p99Ms
  return [
    {
      what: 'valley filling, p99 TTFT of live requests',
      figure: `${filled.p99Ms.toFixed(0)} ms`,
      reference: `${formatRatio(ratio)} live alone (${alone.p99Ms.toFixed(0)} ms)`,
      target: `at most ${ttftTarget.toFixed(2)}×`,
      met: ratio <= ttftTarget,
    },
    {
      what: 'valley filling, time in which the fleet is busy',
      figure: `${(filled.busyShare * 100).toFixed(1)} %`,
      reference: `live alone ${(alone.busyShare * 100).toFixed(1)} %`,
      target: `at least ${busyTarget * 100} %`,
      met: filled.busyShare >= busyTarget,
    },
  ]
}

if (import.meta.main) await benchValley({ quick: process.argv.includes('--quick') })
