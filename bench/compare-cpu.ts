import type { Load, LoadOrder, LoadReport } from './load-client.ts'
import { readCpuMs } from './process-cost.ts'
import type { Proxy } from './proxies.ts'

/** One round of one contender: its CPU time for each unit (a request, a chunk), and what the clients saw. */
export type Round = { cpuUsPerUnit: number; report: LoadReport }

export type Contender = {
  proxy: Proxy
  order: LoadOrder
  /** What one request counts for: 1, or the chunks of its stream. */
  unitsPerRequest: number
  warmUpRequests: number
}

/**
 * Measures the contenders in turn, again and again, so that whatever else the machine does meets all of them alike;
 * every second round goes backwards, against drifts. The rounds of each are in the order of the contenders.
 */
export async function compareCpu(
  load: Load,
  contenders: readonly Contender[],
  rounds: number,
): Promise<Round[][]> {
  for (const { order, warmUpRequests } of contenders) await load.run({ ...order, requests: warmUpRequests })
  const results = contenders.map((): Round[] => [])
  for (let round = 0; round < rounds; round += 1) {
    const turn = [...contenders.keys()]
    for (const i of round % 2 === 0 ? turn : turn.reverse()) {
      results[i]?.push(await measure(load, contenders[i] as Contender))
    }
  }
  return results
}

async function measure(load: Load, { proxy, order, unitsPerRequest }: Contender): Promise<Round> {
  const beforeMs = readCpuMs(proxy.program.pid)
  const report = await load.run(order)
  const spentMs = readCpuMs(proxy.program.pid) - beforeMs
  return { cpuUsPerUnit: (spentMs * 1000) / (report.completed * unitsPerRequest), report }
}
