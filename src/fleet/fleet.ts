import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Config, ModelConfig, UpstreamConfig } from '../config/schema.ts'
import type { Clock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import type { Service } from '../core/service.ts'
import type { Logger } from '../telemetry/log.ts'
import { Instance, type InstanceSpec } from './instance.ts'
import { LocalProcess, waitUntilIdle } from './launcher.ts'
import { Prober } from './prober.ts'
import { Registry } from './registry.ts'
import { shareThreads } from './threads.ts'
import { Connections } from './transport.ts'

/** A model of the configuration whose file is at hand. */
export type LocalModel = { config: ModelConfig; path: string }

export type FleetPlan = {
  models: readonly LocalModel[]
  upstreams: readonly UpstreamConfig[]
  config: Config
}

type Member = {
  instance: Instance
  /** What it was made from: another description under the same id is another instance. */
  identity: unknown
  /** How to make it stop and release what it holds. */
  stop: () => Promise<void>
  process: LocalProcess | null
}

const discoveryBytesMax = 4 * 1024 * 1024

/** All instances of this process, kept as the plan says: local ones launched, remote ones known and probed. */
export class Fleet implements Service {
  readonly name = 'fleet'
  readonly registry = new Registry()
  readonly #clock: Clock
  readonly #log: Logger
  readonly #env: Readonly<Record<string, string | undefined>>
  readonly #prober: Prober
  readonly #members = new Map<string, Member>()
  /** Instances that an earlier plan named and that still drain. */
  readonly #leaving = new Set<Promise<void>>()
  #plan: FleetPlan
  #socketFolder: string | null = null
  #stopDiscovery: (() => void) | null = null

  constructor(parts: {
    plan: FleetPlan
    clock: Clock
    log: Logger
    env: Readonly<Record<string, string | undefined>>
  }) {
    this.#plan = parts.plan
    this.#clock = parts.clock
    this.#log = parts.log
    this.#env = parts.env
    this.#prober = new Prober({
      registry: this.registry,
      limits: () => this.#plan.config.health,
      clock: parts.clock,
      log: parts.log,
      onUnwell: (instance) => this.#members.get(instance.id)?.process?.kill(),
    })
  }

  /** Starts everything in the plan; throws a SetupError when a local instance can't run. */
  async start(): Promise<void> {
    this.#socketFolder = await mkdtemp(join(tmpdir(), 'autoglm-'))
    await this.apply(this.#plan)
    await this.#prober.start()
    // An upstream that did not list its models at the start is asked again until it does.
    this.#stopDiscovery = this.#clock.every(this.#plan.config.health.probeIntervalMs, () => {
      for (const { instance } of this.#members.values()) {
        if (instance.kind === 'remote' && instance.spec.models.size === 0) void this.#discover(instance)
      }
    })
  }

  async stop(): Promise<void> {
    this.#stopDiscovery?.()
    await this.#prober.stop()
    for (const id of [...this.#members.keys()]) this.#release(id)
    await Promise.all(this.#leaving)
    if (this.#socketFolder) await rm(this.#socketFolder, { recursive: true, force: true })
    this.#socketFolder = null
  }

  /** Ends all local processes at once, without waiting for anything. */
  killAll(): void {
    for (const { process } of this.#members.values()) process?.kill()
  }

  /** Process id of a local instance that runs now. */
  pidOf(id: string): number | undefined {
    return this.#members.get(id)?.process?.pid
  }

  /**
   * Makes the fleet what the plan says. What the plan leaves as it was goes on undisturbed; weights, limits and model
   * names change in place; what is new starts before what is gone drains, so that no request is left without an
   * instance. When something new can't start, all of it is taken back and the fleet stays as it was.
   */
  async apply(plan: FleetPlan): Promise<void> {
    const wanted = [...this.#describeLocals(plan), ...this.#describeRemotes(plan)]
    const replaced = wanted.filter(({ spec, identity }) => {
      const member = this.#members.get(spec.id)
      return member && !isDeepStrictEqual(member.identity, identity)
    })
    const added = wanted.filter(({ spec }) => !this.#members.has(spec.id))
    const kept = wanted.filter((wish) => !replaced.includes(wish) && !added.includes(wish))

    const started: string[] = []
    try {
      await Promise.all(
        added.map(async (wish) => {
          started.push(wish.spec.id)
          await wish.launch()
        }),
      )
    } catch (error) {
      for (const id of started) this.#release(id)
      await Promise.all(this.#leaving)
      throw error
    }
    this.#plan = plan
    for (const { spec } of kept) {
      const member = this.#members.get(spec.id) as Member
      // Discovered model names are not in the plan: they stay.
      const models = spec.models.size === 0 ? member.instance.spec.models : spec.models
      this.registry.change(member.instance, { ...spec, endpoint: member.instance.spec.endpoint, models })
    }
    // One after the other, so that the peers of a replaced instance carry its traffic meanwhile.
    for (const wish of replaced) {
      this.#release(wish.spec.id)
      await Promise.all(this.#leaving)
      await wish.launch()
    }
    const ids = new Set(wanted.map(({ spec }) => spec.id))
    for (const id of [...this.#members.keys()]) if (!ids.has(id)) this.#release(id)
  }

  #describeLocals(plan: FleetPlan) {
    const instances = plan.models.reduce((sum, { config }) => sum + config.instances, 0)
    const shared = shareThreads({ cores: availableParallelism(), instances })
    return plan.models.flatMap((model) =>
      Array.from({ length: model.config.instances }, (_, index) => {
        const { config, path } = model
        const id = `${config.name}-${index}`
        const socketPath = this.#socketPath(id)
        const threads = config.threads || shared
        const spec: InstanceSpec = {
          id,
          kind: 'local',
          endpoint: { origin: 'http://localhost', basePath: '/v1', socketPath, apiKey: null },
          weight: config.weight,
          inFlightMax: config.parallel + config.waitingMax,
          probe: 'health',
          models: new Map([[config.name, config.name]]),
        }
        const args = engineArgs({ config, path, threads, socketPath, logLevel: plan.config.log.level })
        return { spec, identity: args, launch: () => this.#launchLocal(spec, args) }
      }),
    )
  }

  #describeRemotes(plan: FleetPlan) {
    return plan.upstreams.map((upstream) => {
      const url = new URL(upstream.url)
      const apiKey = upstream.apiKeyEnv === '' ? null : (this.#env[upstream.apiKeyEnv] ?? null)
      const spec: InstanceSpec = {
        id: upstream.name,
        kind: 'remote',
        endpoint: { origin: url.origin, basePath: url.pathname.replace(/\/$/, ''), socketPath: null, apiKey },
        weight: upstream.weight,
        inFlightMax: upstream.inFlightMax,
        probe: upstream.probe,
        models: new Map(Object.entries(upstream.models)),
      }
      const identity: unknown = spec.endpoint
      return { spec, identity, launch: () => this.#joinRemote(spec) }
    })
  }

  async #launchLocal(spec: InstanceSpec, args: readonly string[]): Promise<void> {
    const instance = new Instance(spec, new Connections(spec.endpoint, this.#plan.config.timeouts))
    const process = new LocalProcess({
      instance,
      args,
      registry: this.registry,
      limits: () => ({
        ...this.#plan.config.health,
        drainTimeoutMs: this.#plan.config.server.drainTimeoutMs,
      }),
      clock: this.#clock,
      log: this.#log,
    })
    this.#members.set(spec.id, { instance, identity: args, process, stop: () => process.stop() })
    this.registry.add(instance)
    await process.start()
  }

  async #joinRemote(spec: InstanceSpec): Promise<void> {
    const instance = new Instance(spec, new Connections(spec.endpoint, this.#plan.config.timeouts))
    const stop = async () => {
      if (instance.state === 'ready' || instance.state === 'unready') this.registry.move(instance, 'draining')
      await waitUntilIdle(instance, this.#plan.config.server.drainTimeoutMs, this.#clock)
      this.registry.move(instance, 'stopped')
    }
    this.#members.set(spec.id, { instance, identity: spec.endpoint, process: null, stop })
    this.registry.add(instance)
    if (spec.probe === 'off') this.registry.move(instance, 'ready')
    else await this.#prober.probe(instance)
    if (instance.spec.models.size === 0) await this.#discover(instance)
  }

  /** Asks an upstream without configured models which ones it serves. */
  async #discover(instance: Instance): Promise<void> {
    const { probeTimeoutMs } = this.#plan.config.health
    const limits = { timeoutMs: probeTimeoutMs, bytesMax: discoveryBytesMax }
    const answer = await instance.connections.getJson('/models', limits).catch(() => null)
    const names = readModelNames(answer?.json)
    // It may have left, or another answer may have come first.
    if (names.length === 0 || this.registry.find(instance.id) !== instance) return
    this.registry.change(instance, { ...instance.spec, models: new Map(names.map((name) => [name, name])) })
    this.#log.info({ instance: instance.id, models: names }, 'models discovered')
  }

  #release(id: string): void {
    const member = this.#members.get(id)
    if (!member) return
    this.#members.delete(id)
    const leaving: Promise<void> = member
      .stop()
      .catch((error: unknown) =>
        this.#log.error({ err: error, instance: id }, 'instance did not stop cleanly'),
      )
      .then(() => {
        this.registry.remove(member.instance)
        return member.instance.connections.close()
      })
      .finally(() => this.#leaving.delete(leaving))
    this.#leaving.add(leaving)
  }

  #socketPath(id: string): string {
    if (process.platform === 'win32') return `\\\\.\\pipe\\autoglm-${process.pid}-${id}`
    if (this.#socketFolder === null) throw new SetupError('The fleet is not running.')
    // A Unix socket's path has room for about a hundred bytes, whatever the model is called.
    return join(this.#socketFolder, `${id.replaceAll(/[^\w.-]/g, '_').slice(-40)}.sock`)
  }
}

function engineArgs(options: {
  config: ModelConfig
  path: string
  threads: number
  socketPath: string
  logLevel: string
}): string[] {
  const { config } = options
  return [
    ...['--model', options.path, '--name', config.name, '--socket', options.socketPath],
    ...['--parallel', String(config.parallel), '--waiting-max', String(config.waitingMax)],
    ...['--context-tokens', String(config.contextTokens), '--threads', String(options.threads)],
    ...['--gpu', config.gpu, '--log-level', options.logLevel],
  ]
}

/** The ids in the answer to `GET /models`; empty when it is something else. */
export function readModelNames(json: unknown): string[] {
  if (typeof json !== 'object' || json === null || !('data' in json) || !Array.isArray(json.data)) return []
  return json.data
    .map((entry: unknown) => (typeof entry === 'object' && entry !== null && 'id' in entry ? entry.id : null))
    .filter((id): id is string => typeof id === 'string' && id.length > 0)
}
