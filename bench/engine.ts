import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Finding } from './finding.ts'
import { startLoad, type LoadOrder } from './load-client.ts'
import { ask, cores, launchOwn, stopAll } from './processes.ts'
import { gatewayName, startGateway, writeConfig } from './proxies.ts'
import type { DirectOrder, DirectReport } from './reference/direct-engine.ts'
import { median, medianRatio } from './statistics.ts'
import { formatRatio, printTable } from './table.ts'

const limits = { ofDirectMin: 0.9 }
const sequences = 8
const threads = 1
const maxTokens = 120
const root = join(import.meta.dirname, '..')
const modelPaths = ['models/tiny/tiny.gguf', '../shared/models/stories260K.gguf']

const subjects = [
  'a small dog',
  'an old house',
  'the red ball',
  'a girl named Anna',
  'the tall tree',
  'a blue bird',
]
const openings = [
  'Once upon a time there was',
  'One day Tom saw',
  'In the garden stood',
  'Nobody had ever met',
]

/** Short, so that nearly all of the work is generating: what a sequence still holds of one hardly helps the next. */
const prompts = subjects.flatMap((subject) => openings.map((opening) => `${opening} ${subject}`))

/** What is left of the model's own speed once it is reached through the gateway. */
export async function benchEngine({ quick }: { quick: boolean }): Promise<Finding[]> {
  console.log(`Tokens a second: the engine through the gateway and node-llama-cpp called directly`)
  const model = modelPaths.map((path) => join(root, path)).find((path) => existsSync(path))
  if (!model) {
    console.log('  There is no model here (models/tiny/tiny.gguf): left out.')
    return []
  }
  console.log(
    `  one instance, ${sequences} sequences, ${threads} thread, ${prompts.length} prompts a round, at most ${maxTokens} tokens, temperature 0`,
  )
  const routes = await startRoutes(model)
  const speeds = routes.map((): number[] => [])
  const tokens = routes.map(() => 0)
  const rounds = quick ? 3 : 7
  for (let round = -1; round < rounds; round += 1) {
    for (const [i, route] of routes.entries()) {
      const report = await route.run()
      if (round < 0) continue
      speeds[i]?.push((report.tokens * 1000) / report.wallMs)
      tokens[i] = report.tokens
    }
  }
  await stopAll()

  const [direct = []] = speeds
  const ratios = speeds.map((own) => medianRatio(own, direct))
  printTable(
    ['route', 'tokens a second', 'to direct', 'tokens a round'],
    routes.map(({ name }, i) => [
      name,
      median(speeds[i] ?? []).toFixed(0),
      formatRatio(ratios[i] ?? 0),
      String(tokens[i]),
    ]),
  )
  return routes.slice(1).map(({ name }, i) => ({
    what: `engine ${name}`,
    figure: `${median(speeds[i + 1] ?? []).toFixed(0)} tokens/s`,
    reference: `${formatRatio(ratios[i + 1] ?? 0)} node-llama-cpp (${median(direct).toFixed(0)})`,
    target: `at least ${formatRatio(limits.ofDirectMin)}`,
    met: (ratios[i + 1] ?? 0) >= limits.ofDirectMin,
  }))
}

type Route = { name: string; run(): Promise<{ tokens: number; wallMs: number }> }

async function startRoutes(model: string): Promise<Route[]> {
  const direct = await launchOwn({
    name: 'direct-engine',
    file: 'reference/direct-engine.ts',
    args: [model, String(sequences), String(threads)],
    core: cores.any,
  })
  const config = writeConfig('engine', {
    models: [
      { name: 'bench', source: model, instances: 1, parallel: sequences, threads, contextTokens: 512 },
    ],
  })
  const gateway = await startGateway({ args: ['--config', config], model: 'bench', core: cores.any })
  const load = await startLoad(cores.any)
  const makeOrder = (extra: object): LoadOrder => ({
    url: `${gateway.origin}/v1/completions`,
    headers: {},
    bodies: prompts.map((prompt) =>
      JSON.stringify({ model: 'bench', prompt, max_tokens: maxTokens, temperature: 0, ...extra }),
    ),
    requests: prompts.length,
    clients: sequences,
    expect: {},
    countTokens: true,
  })
  const streamed = { stream: true, stream_options: { include_usage: true } }
  const order: DirectOrder = { prompts, maxTokens }
  return [
    { name: 'node-llama-cpp', run: async () => (await ask(direct.program, order)) as DirectReport },
    { name: `${gatewayName}, JSON`, run: () => load.run(makeOrder({})) },
    { name: `${gatewayName}, streamed`, run: () => load.run(makeOrder(streamed)) },
  ]
}
