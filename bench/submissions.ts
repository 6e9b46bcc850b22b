import type { Finding } from './finding.ts'
import { startLoad } from './load-client.ts'
import { jsonRequest, modelName } from './payloads.ts'
import { cores, stopAll } from './processes.ts'
import { startGateway, startMockUpstream, writeConfig } from './proxies.ts'
import { median, medianRatio } from './statistics.ts'
import { printTable } from './table.ts'

const clients = 64
const overPlainMin = 0.5

/** Tasks submitted over HTTP, each on disk before it is answered, beside plain requests to the same process. */
export async function benchSubmissions({ quick }: { quick: boolean }): Promise<Finding[]> {
  console.log(
    `Tasks submitted over HTTP beside plain chat completions, ${clients} clients, SQLite on this disk`,
  )
  const upstream = await startMockUpstream()
  const config = writeConfig('submissions', {
    upstreams: [{ name: 'mock', url: `${upstream}/v1`, models: { [modelName]: modelName } }],
    // What is submitted stays in the line: running it would be measured with it.
    queue: { concurrencyMax: 0, tenantTasksMax: 10_000_000, tasksMax: 10_000_000 },
  })
  const gateway = await startGateway({ args: ['--config', config], model: modelName, core: cores.measured })
  const load = await startLoad()
  const task = JSON.stringify({ endpoint: '/v1/chat/completions', body: JSON.parse(jsonRequest) as object })
  const kinds = [
    { name: 'plain request', path: '/v1/chat/completions', body: jsonRequest, status: 200 },
    { name: 'submission', path: '/v1/tasks', body: task, status: 202 },
  ] as const
  const run = async ({ path, body, status }: (typeof kinds)[number], requests: number) => {
    const url = gateway.origin + path
    const order = { url, headers: {}, bodies: [body], requests, clients, expect: { status } }
    const report = await load.run(order)
    return (report.completed / report.wallMs) * 1000
  }
  for (const kind of kinds) await run(kind, 16_000)
  const rates = kinds.map((): number[] => [])
  for (let round = 0; round < (quick ? 10 : 40); round += 1) {
    for (const [i, kind] of kinds.entries()) rates[i]?.push(await run(kind, 1_000))
  }
  await stopAll()
  const [plain = [], submitted = []] = rates
  const ratio = medianRatio(submitted, plain)
  printTable(
    ['', 'a second', 'ratio'],
    kinds.map(({ name }, i) => {
      const own = rates[i] ?? []
      return [name, String(Math.round(median(own))), `${medianRatio(own, plain).toFixed(2)}×`]
    }),
  )
  return [
    {
      what: 'durable submissions over HTTP',
      figure: `${Math.round(median(submitted))} a second`,
      reference: `${ratio.toFixed(2)}× the plain request rate (${Math.round(median(plain))})`,
      target: `at least ${overPlainMin.toFixed(2)}×`,
      met: ratio >= overPlainMin,
    },
  ]
}
