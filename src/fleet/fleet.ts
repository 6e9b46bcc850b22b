import { rm } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Clock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import type { Service } from '../core/service.ts'
import type { Logger } from '../telemetry/log.ts'
import { Instance } from './instance.ts'
import { LocalProcess, waitUntilIdle } from './launcher.ts'
import { listWishes, type FleetPlan, type Wish } from './plan.ts'
import { Prober } from './prober.ts'
import { Registry } from './registry.ts'
import { makeSocketFolder } from './socket-folder.ts'
import { Connections } from './transport.ts'

type Member = {
  instance: Instance
  wish: Wish
  process: LocalProcess | null
  /** Makes it stop and release what it holds. */
  stop(): Promise<void>
}

const discoveryBytesMax = 4 * 1024 * 1024
/** By then each process of this machine knows that an instance drains, and has told what it had sent there before. */
const drainSettleMs = 50

/** All instances of this process, kept as the plan says: local ones launched, remote ones known and probed. */
export class Fleet implements Service {
  readonly name = 'fleet'
  readonly registry = new Registry()
  readonly #clock: Clock
  readonly #log: Logger
  readonly #env: Readonly<Record<string, string | undefined>>
  readonly #prober: Prober
  readonly #members = new Map<string, Member>()
  /** Members that are no longer wanted and still drain, with the end of that. */
  readonly #leaving = new Map<Member, Promise<void>>()
  /** Members whose successors are starting. */
  readonly #outgoing = new Set<Member>()
  #stopped = false
  #plan: FleetPlan
  #socketFolder: string | null = null
  #sockets = 0
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
    this.#socketFolder = await makeSocketFolder()
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
    this.#stopped = true
    this.#stopDiscovery?.()
    await this.#prober.stop()
    for (const id of [...this.#members.keys()]) void this.#release(id)
    for (const member of this.#outgoing) void this.#retire(member)
    await Promise.all(this.#leaving.values())
    if (this.#socketFolder) await rm(this.#socketFolder, { recursive: true, force: true })
    this.#socketFolder = null
  }

  /** Ends all local processes at once, without waiting for anything. */
  killAll(): void {
    const all = [...this.#members.values(), ...this.#outgoing, ...this.#leaving.keys()]
    for (const { process } of all) process?.kill()
  }

  /**
   * Makes the fleet what the plan says. What the plan leaves as it was goes on undisturbed; weights, limits and model
   * names change in place; what is new starts before what is gone drains, so that no request is left without an
   * instance. When something new can't start, all of it is taken back, the fleet stays as it was, and the error is
   * thrown.
   */
  async apply(plan: FleetPlan): Promise<void> {
    const wanted = listWishes(plan, { cores: availableParallelism(), env: this.#env })
    const added = wanted.filter(({ spec }) => !this.#members.has(spec.id))
    const present = wanted.filter(({ spec }) => this.#members.has(spec.id))
    const [kept, replaced] = partition(present, ({ spec, identity }) =>
      isDeepStrictEqual(this.#members.get(spec.id)?.wish.identity, identity),
    )

    const before = this.#plan
    this.#plan = plan
    const undo: (() => void)[] = []
    const launch = async (wish: Wish) => {
      const old = this.#members.get(wish.spec.id)
      undo.push(() => {
        if (this.#members.get(wish.spec.id) !== old) void this.#release(wish.spec.id)
        // After a stop there is nothing to go back to.
        if (old && !this.#stopped) this.#members.set(wish.spec.id, old)
      })
      if (old) this.#outgoing.add(old)
      try {
        await this.#launch(wish)
        if (old && !this.#stopped) void this.#retire(old)
      } finally {
        if (old) this.#outgoing.delete(old)
      }
    }
    try {
      await Promise.all(added.map(launch))
      // One after the other: a machine has room for one more instance, not for twice as many.
      for (const wish of replaced) await launch(wish)
    } catch (error) {
      this.#plan = before
      for (const step of undo.reverse()) step()
      throw error
    }
    for (const wish of kept) this.#adjust(wish)
    const ids = new Set(wanted.map(({ spec }) => spec.id))
    for (const id of [...this.#members.keys()]) if (!ids.has(id)) void this.#release(id)
  }

  /** Changes what may change while an instance runs. */
  #adjust(wish: Wish): void {
    const member = this.#members.get(wish.spec.id)
    if (!member) return
    const { endpoint, models } = member.instance.spec
    // Models that were discovered are not in the plan: they stay.
    const isDiscovered = member.wish.spec.models.size === 0 && wish.spec.models.size === 0
    this.registry.change(member.instance, {
      ...wish.spec,
      endpoint,
      models: isDiscovered ? models : wish.spec.models,
    })
    member.wish = wish
  }

  #launch(wish: Wish): Promise<void> {
    return wish.engineArgs === null ? this.#joinRemote(wish) : this.#launchLocal(wish, wish.engineArgs)
  }

  async #launchLocal(wish: Wish, engineArgs: readonly string[]): Promise<void> {
    const socketPath = this.#makeSocketPath(wish.spec.id)
    const spec = { ...wish.spec, endpoint: { ...wish.spec.endpoint, socketPath } }
    const instance = new Instance(spec, new Connections(spec.endpoint, this.#plan.config.timeouts))
    const process = new LocalProcess({
      instance,
      args: [...engineArgs, '--socket', socketPath],
      registry: this.registry,
      limits: () => ({
        ...this.#plan.config.health,
        ...this.#drainLimits,
      }),
      clock: this.#clock,
      log: this.#log,
    })
    this.#members.set(spec.id, { instance, wish, process, stop: () => process.stop() })
    this.registry.add(instance)
    await process.start()
  }

  async #joinRemote(wish: Wish): Promise<void> {
    const { spec } = wish
    const instance = new Instance(spec, new Connections(spec.endpoint, this.#plan.config.timeouts))
    const stop = async () => {
      if (instance.state === 'ready' || instance.state === 'unready') this.registry.move(instance, 'draining')
      await waitUntilIdle(instance, this.#drainLimits, this.#clock)
      this.registry.move(instance, 'stopped')
    }
    this.#members.set(spec.id, { instance, wish, process: null, stop })
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
    if (names.length === 0 || !this.registry.includes(instance)) return
    this.registry.change(instance, { ...instance.spec, models: new Map(names.map((name) => [name, name])) })
    this.#log.info({ instance: instance.id, models: names }, 'models discovered')
  }

  get #drainLimits(): { drainTimeoutMs: number; drainSettleMs: number } {
    const { drainTimeoutMs, processes } = this.#plan.config.server
    return { drainTimeoutMs, drainSettleMs: processes > 1 ? drainSettleMs : 0 }
  }

  /** Takes a member out of the fleet. */
  #release(id: string): Promise<void> {
    const member = this.#members.get(id)
    this.#members.delete(id)
    return member ? this.#retire(member) : Promise.resolve()
  }

  /** Lets an instance drain and stop, and lets go of its connections. Resolves when it has. */
  #retire(member: Member): Promise<void> {
    const { instance } = member
    const leaving = member
      .stop()
      .catch((error: unknown) =>
        this.#log.error({ err: error, instance: instance.id }, 'instance did not stop cleanly'),
      )
      .then(() => {
        this.registry.remove(instance)
        return instance.connections.close()
      })
      .finally(() => this.#leaving.delete(member))
    this.#leaving.set(member, leaving)
    return leaving
  }

  /** A path of its own for every process: a successor listens while its predecessor still drains. */
  #makeSocketPath(id: string): string {
    this.#sockets += 1
    // A Unix socket's path has room for about a hundred bytes, whatever the model is called.
    const name = `${this.#sockets}.${id.replaceAll(/[^\w.-]/g, '_').slice(-40)}.sock`
    if (process.platform === 'win32') return `\\\\.\\pipe\\autoglm-${process.pid}-${name}`
    if (this.#socketFolder === null) throw new SetupError('The fleet is not running.')
    return join(this.#socketFolder, name)
  }
}

/** The ids in the answer to `GET /models`; empty when it is something else. */
function readModelNames(json: unknown): string[] {
  if (typeof json !== 'object' || json === null || !('data' in json) || !Array.isArray(json.data)) return []
  return json.data
    .map((entry: unknown) => (typeof entry === 'object' && entry !== null && 'id' in entry ? entry.id : null))
    .filter((id): id is string => typeof id === 'string' && id.length > 0)
}

function partition<T>(items: readonly T[], holds: (item: T) => boolean): [T[], T[]] {
  return [items.filter(holds), items.filter((item) => !holds(item))]
}
