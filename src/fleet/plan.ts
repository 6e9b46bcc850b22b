import type { Config, ModelConfig, UpstreamConfig } from '../config/schema.ts'
import type { InstanceSpec } from './instance.ts'
import { shareThreads } from './threads.ts'

/** A model of the configuration whose file is at hand. */
type LocalModel = {
  config: ModelConfig
  path: string
  /** Changes with the content of the file. */
  version?: string
}

/** What the fleet should be. */
export type FleetPlan = {
  models: readonly LocalModel[]
  upstreams: readonly UpstreamConfig[]
  config: Config
}

/** An instance as a plan wants it. */
export type Wish = {
  spec: InstanceSpec
  /** What it is made from: another description under the same id is another instance. */
  identity: unknown
  /** Flags of the engine (`engine/options.ts`) but for where it listens; null for a remote instance. */
  engineArgs: readonly string[] | null
}

type Surroundings = { cores: number; env: Readonly<Record<string, string | undefined>> }

/** All instances that a plan wants, local ones first. */
export function listWishes(plan: FleetPlan, { cores, env }: Surroundings): Wish[] {
  const instances = plan.models.reduce((sum, { config }) => sum + config.instances, 0)
  const threads = shareThreads({ cores, instances })
  return [
    ...plan.models.flatMap((model) => wishLocals(model, { threads, config: plan.config })),
    ...plan.upstreams.map((upstream) => wishRemote(upstream, env)),
  ]
}

/** What the gateway may add to a body on its way: a model's name, the wish for a stream's usage. */
const addedBytesMax = 4096
/** The most that the engine's flag may be. */
const engineBodyBytesMax = 1_073_741_824

function wishLocals(
  { config, path, version = path }: LocalModel,
  shared: { threads: number; config: Config },
): Wish[] {
  const { server, log } = shared.config
  const engineArgs = [
    ...['--model', path, '--name', config.name],
    ...['--parallel', String(config.parallel), '--waiting-max', String(config.waitingMax)],
    ...['--context-tokens', String(config.contextTokens)],
    ...['--threads', String(config.threads || shared.threads)],
    ...['--gpu', config.gpu, '--log-level', log.level],
    // What the gateway lets in, the engine must not turn away.
    ...['--body-bytes-max', String(Math.min(server.bodyBytesMax + addedBytesMax, engineBodyBytesMax))],
    ...['--json-depth-max', String(server.jsonDepthMax), '--drain-timeout-ms', String(server.drainTimeoutMs)],
  ]
  return Array.from({ length: config.instances }, (_, index) => {
    const spec: InstanceSpec = {
      id: `${config.name}-${index}`,
      kind: 'local',
      // Each process gets a socket of its own when it is launched.
      endpoint: { origin: 'http://localhost', basePath: '/v1', socketPath: null, apiKey: null },
      weight: config.weight,
      inFlightMax: config.parallel + config.waitingMax,
      slots: config.parallel,
      areSlotsKnown: true,
      probe: 'health',
      models: new Map([[config.name, config.name]]),
      version,
    }
    // Another file in the same place is another model: the process that has loaded the old one is replaced.
    return { spec, identity: [version, ...engineArgs], engineArgs }
  })
}

/** What most servers work on at once at the least. */
const slotsGuess = 16

function wishRemote(upstream: UpstreamConfig, env: Surroundings['env']): Wish {
  const url = new URL(upstream.url)
  const apiKey = upstream.apiKeyEnv === '' ? null : (env[upstream.apiKeyEnv] ?? null)
  const spec: InstanceSpec = {
    id: upstream.name,
    kind: 'remote',
    endpoint: { origin: url.origin, basePath: url.pathname.replace(/\/$/, ''), socketPath: null, apiKey },
    weight: upstream.weight,
    inFlightMax: upstream.inFlightMax,
    slots: Math.min(upstream.slots || slotsGuess, upstream.inFlightMax),
    areSlotsKnown: upstream.slots > 0,
    probe: upstream.probe,
    models: new Map(Object.entries(upstream.models)),
    version: upstream.url,
  }
  return { spec, identity: spec.endpoint, engineArgs: null }
}
