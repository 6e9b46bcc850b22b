import { openHouse } from './open-house.ts'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeAccess } from '../../src/gateway/auth/access-parts.ts'
import { buildTaskSide } from '../../src/app-tasks.ts'
import { planFleet, readRules, readSettings } from '../../src/app-settings.ts'
import type { Config } from '../../src/config/schema.ts'
import { systemClock, type Clock } from '../../src/core/clock.ts'
import { Fleet } from '../../src/fleet/fleet.ts'
import { makeApi } from '../../src/gateway/api.ts'
import type { ApiParts } from '../../src/gateway/parts.ts'
import { RequestBook } from '../../src/gateway/request-book.ts'
import { RequestMetrics } from '../../src/gateway/request-metrics.ts'
import { GatewayServer } from '../../src/gateway/server.ts'
import type { ProgressBoard } from '../../src/queue/progress.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { Router } from '../../src/router/router.ts'
import { ResultCache } from '../../src/storage/result-cache.ts'
import { openStore } from '../../src/storage/open-store.ts'
import type { Store } from '../../src/storage/store.ts'
import type { ClaimedTask } from '../../src/storage/task-store.ts'
import { openLog } from '../../src/telemetry/log.ts'
import { MetricsRegistry } from '../../src/telemetry/metrics.ts'
import { makeConfig, upstream } from './gateway.ts'

type Tree = Record<string, unknown>

export type TaskServerOptions = {
  /** URLs of instances that serve the model `m`. */
  upstreams?: readonly string[]
  config?: Tree
  /** The clock of queue and gateway; the fleet and its sockets keep the real one. */
  clock?: Clock
  env?: NodeJS.ProcessEnv
  /** Further fields of the gateway's parts. */
  more?: (parts: { store: Store; queue: Queue; config: Config }) => Partial<ApiParts>
}

/** A gateway over an embedded store in a folder of its own. Nobody works on the tasks but the test. */
export class TaskServer implements AsyncDisposable {
  readonly url: string
  readonly store: Store
  readonly queue: Queue
  readonly progress: ProgressBoard
  readonly router: Router
  readonly gateway: GatewayServer
  readonly clock: Clock
  readonly #stop: () => Promise<void>

  private constructor(parts: Omit<TaskServer, typeof Symbol.asyncDispose | 'url' | 'work' | 'finish'> & { stop: () => Promise<void> }) {
    this.url = parts.gateway.url
    this.store = parts.store
    this.queue = parts.queue
    this.progress = parts.progress
    this.router = parts.router
    this.gateway = parts.gateway
    this.clock = parts.clock
    this.#stop = parts.stop
  } // prettier-ignore

  static async start(options: TaskServerOptions = {}): Promise<TaskServer> {
    const clock = options.clock ?? systemClock
    const env = options.env ?? {}
    const folder = await mkdtemp(join(tmpdir(), 'autoglm-tasks-'))
    const upstreams = (options.upstreams ?? ['http://127.0.0.1:1/v1']).map((url, index) =>
      upstream(`u${index}`, url),
    )
    const config = await makeConfig({ upstreams, dataDir: folder, ...options.config }, env)
    const { log, writeLine, close } = openLog(config.log, clock)
    const fleet = new Fleet({ plan: await planFleet(config, undefined), clock: systemClock, log, env })
    const router = new Router({ registry: fleet.registry, rules: readRules(config), clock: systemClock, log })
    const store = await openStore(config.storage, { dataDir: folder, clock, log })
    const metrics = new MetricsRegistry()
    const { registry } = fleet
    // Its services are not started: the tests do the work.
    const side = await buildTaskSide({
      rulesOf: openHouse.rulesOf,
      keepFilesMs: () => config.storage.keepFilesMs,
      keepTimes: () => ({ keepMs: config.storage.keepFinishedMs, own: [], finishedMax: 1_000_000 }),
      config: () => config,
      env,
      store,
      router,
      registry,
      metrics,
      clock,
      log,
    })
    const { queue, progress } = side
    const book = new RequestBook({ clock, log, writeLine, metrics: new RequestMetrics(metrics) })
    const cache = new ResultCache({ store: null, clock, log, settings: () => config.cache })
    const settings = () => readSettings(config)
    const access = makeAccess({ config: () => config, store, env, clock, log })
    const apiParts = {
      ...{ ...openHouse, ...side, access, registry, router, cache, store, clock, log, settings },
    }
    const gateway = new GatewayServer({
      ...{ registry, metrics, clock, log, book },
      gate: openHouse.gate,
      storageProblem: () => null,
      components: ['llm-router', 'task-queue', 'storage-engine'],
      version: 'test',
      limits: config.server,
      api: makeApi({ ...apiParts, ...options.more?.({ store, queue, config }) }, book, config.server),
    })
    await store.start()
    await fleet.start()
    await gateway.start()
    const stop = async () => {
      gateway.cut()
      await gateway.stop()
      await fleet.stop()
      await store.stop()
      close()
      await rm(folder, { recursive: true, force: true })
    }
    return new TaskServer({ store, queue, progress, router, gateway, clock, stop })
  }

  /** Takes the next task of `m` as a worker would. */
  async work(): Promise<ClaimedTask> {
    const nowMs = this.clock.wallMs()
    const [claimed] = await this.store.tasks.claim({
      model: 'm',
      owner: 'test',
      nowMs,
      leaseMs: 60_000,
      limit: 1,
      agedLimit: 0,
      ageingMs: 60_000,
    })
    if (!claimed) throw new Error('no task waits')
    return claimed
  }

  /** Ends the attempt that `work` began. */
  async finish(
    { task }: ClaimedTask,
    result: unknown = { id: 'c', choices: [{ text: 'Hello.' }] },
  ): Promise<void> {
    const usage = { promptTokens: 5, completionTokens: 3, cachedTokens: 1 }
    const outcome = { kind: 'succeeded', result: Buffer.from(JSON.stringify(result)), usage } as const
    const settlement = {
      id: task.id,
      attempt: task.attempt,
      nowMs: this.clock.wallMs(),
      instance: 'u0',
      outcome,
    }
    await this.store.tasks.settle([settlement])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop()
  }
}

/** A task that the server takes. */
export const aTask = (more: Tree = {}, body: Tree = {}): Tree => ({
  endpoint: '/v1/chat/completions',
  body: { model: 'm', messages: [{ role: 'user', content: 'Hi' }], ...body },
  ...more,
})
