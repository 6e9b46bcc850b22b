import type { Load, LoadOrder, LoadReport } from './load-client.ts'
import { readCpuMs } from './process-cost.ts'
import type { Proxy } from './proxies.ts'

/** A proxy that runs, and what is asked of it in each round. */
export type Contender = {
  proxy: Proxy
  order: LoadOrder
  /** What one request counts for: 1, or the chunks of its stream. */
  unitsPerRequest: number
  /** What is asked of it before: for as long as Node goes on compiling. */
  warmUp: LoadOrder
}

/** One round of one contender: its CPU time for each unit (a request, a chunk), and what the clients saw. */
export type Round = { cpuUsPerUnit: number; report: LoadReport }

export type Comparison = { name: string; rounds: Round[]; costs: number[] }

/**
 * Measures the contenders in turn, again and again, so that whatever else the machine does meets all of them alike;
 * every second round goes backwards, against drifts. Rounds are short: the speed of a shared machine changes within a
 * second, and a ratio is taken between neighbours. Two processes of the very same program differ by some per cent
 * for as long as they live, so each pass starts all of them anew. The results are in the order of `starters`, and
 * the n-th rounds of all belong together.
 */
export async function compareCpu(options: {
  load: Load
  starters: readonly (() => Promise<Contender>)[]
  passes: number
  roundsPerPass: number
}): Promise<Comparison[]> {
  const { load, starters, passes, roundsPerPass } = options
  const results = starters.map((): Comparison => ({ name: '', rounds: [], costs: [] }))
  for (let pass = 0; pass < passes; pass += 1) {
    const contenders: Contender[] = []
    for (const start of starters) contenders.push(await start())
    for (const { warmUp } of contenders) await load.run(warmUp)
    for (let round = 0; round < roundsPerPass; round += 1) {
      const entries = [...contenders.entries()]
      for (const [i, contender] of round % 2 === 0 ? entries : entries.reverse()) {
        const result = results[i] as Comparison
        result.name = contender.proxy.name
        result.rounds.push(await measure(load, contender))
      }
    }
    for (const { proxy } of contenders) await proxy.program.stop()
  }
  for (const result of results) result.costs = result.rounds.map(({ cpuUsPerUnit }) => cpuUsPerUnit)
  return results
}

async function measure(load: Load, { proxy, order, unitsPerRequest }: Contender): Promise<Round> {
  const beforeMs = readCpuMs(proxy.program.pid)
  const report = await load.run(order)
  const spentMs = readCpuMs(proxy.program.pid) - beforeMs
  return { cpuUsPerUnit: (spentMs * 1000) / (report.completed * unitsPerRequest), report }
}
