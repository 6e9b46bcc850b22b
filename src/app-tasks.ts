import { buildTaskDesk, type TaskDesk } from './app-task-desk.ts'
import type { Config } from './config/schema.ts'
import type { Clock } from './core/clock.ts'
import type { Service } from './core/service.ts'
import type { Registry } from './fleet/registry.ts'
import { Allowance } from './queue/allowance.ts'
import { BatchRunner } from './queue/batches/batch-runner.ts'
import { Dispatcher, type EndedAttempt } from './queue/dispatcher.ts'
import { LiveBook } from './queue/live-signals.ts'
import { ProgressBoard } from './queue/progress.ts'
import { QueueMetrics } from './queue/queue-metrics.ts'
import { Pruner, type KeepTimes } from './queue/pruner.ts'
import type { TenantRules } from './queue/queue.ts'
import { Rescue } from './queue/rescue.ts'
import { makeResponseExecutor } from './queue/response-executor.ts'
import { Runner } from './queue/runner.ts'
import { WebhookSender } from './queue/webhooks/sender.ts'
import type { Router } from './router/router.ts'
import type { Store } from './storage/store.ts'
import type { Logger } from './telemetry/log.ts'
import { Counter, type MetricsRegistry } from './telemetry/metrics.ts'

/** The asynchronous half of the product: what works on tasks, files, batches and background responses. */
export type TaskSide = TaskDesk & {
  live: LiveBook
  progress: ProgressBoard
  /** There is a batch to work on. */
  wakeBatches(): void
  /** In the order in which they start. */
  services: readonly Service[]
  /** Takes no more tasks and lets those that run end, up to the drain limit; the rest goes back into the line. */
  drain(): Promise<void>
  /** Gives back at once what runs. */
  cut(): void
}

type Parts = {
  config: () => Config
  env: NodeJS.ProcessEnv
  store: Store
  router: Router
  registry: Registry
  rulesOf: (tenant: string) => TenantRules
  /** How long files and stored responses of a tenant are kept. */
  keepFilesMs: (tenant: string) => number
  keepTimes: () => KeepTimes
  /** Told of each attempt whose end was accepted by the store, once. */
  onSettled?: (ended: EndedAttempt) => void
  metrics: MetricsRegistry
  clock: Clock
  log: Logger
}

/** Builds it. Throws SetupError for a secret or a password that is not there. */
export async function buildTaskSide(parts: Parts): Promise<TaskSide> {
  const { config, env, store, router, registry, metrics, clock, log } = parts
  const queueMetrics = new QueueMetrics(metrics)
  const progress = new ProgressBoard(clock)
  const live = new LiveBook(clock)
  const desk = buildTaskDesk({ ...parts, progress, onBatch: () => batchRunner.wake() })
  const { queue, files, responses, responseEvents, webhooks } = desk
  const runner = new Runner({ router })
  runner.register('/v1/responses', makeResponseExecutor({ router, responses, log: responseEvents, clock }))
  const dispatcher = new Dispatcher({
    ...{ store, runner, progress, clock, log },
    allowance: new Allowance({ registry, live, clock, reserve: () => config().queue.liveReserve }),
    resolve: (name) => router.resolve(name),
    metrics: queueMetrics,
    settings: () => config().queue,
    drainMs: () => config().server.drainTimeoutMs,
    ...(parts.onSettled ? { onSettled: parts.onSettled } : {}),
  })
  const rescue = new Rescue({
    ...{ tasks: store.tasks, metrics: queueMetrics, clock, log },
    pruner: new Pruner({ maintenance: store.maintenance, clock, times: parts.keepTimes }),
    leaseMs: () => config().queue.leaseMs,
  })

  const batchRunner = new BatchRunner({
    ...{ store, queue, files, clock, log },
    settings: () => ({
      lineBytesMax: config().server.bodyBytesMax,
      jsonDepthMax: config().server.jsonDepthMax,
    }),
    knowsModels: () => registry.all.every(({ spec }) => spec.models.size > 0),
  })

  const deliveries = new Counter(metrics, {
    name: 'autoglm_webhook_deliveries_total',
    help: 'Webhooks by what came of them.',
    labelNames: ['outcome'],
  })
  const sender = new WebhookSender({
    ...{ store, clock, log },
    settings: webhooks,
    count: (kind) => void (deliveries.cell(kind).value += 1),
  })
  const messages = new Counter(metrics, {
    name: 'autoglm_ingress_messages_total',
    help: 'Messages of brokers by what became of them.',
    labelNames: ['source', 'outcome'],
  })
  const { ingress } = config()
  // The brokers' libraries are loaded for those who have a broker.
  const broker = ingress.length === 0 ? null : await import('./queue/ingress/create-source.ts')
  const sources = ingress.flatMap((entry) =>
    broker === null
      ? []
      : broker.createSource(entry, {
          ...{ queue, clock, log, env },
          rules: () => ({
            bodyBytesMax: config().server.bodyBytesMax,
            jsonDepthMax: config().server.jsonDepthMax,
            webhooks: webhooks(),
          }),
          count: (source, kind) => void (messages.cell(source, kind).value += 1),
        }),
  )
  return {
    ...desk,
    ...{ live, progress },
    wakeBatches: () => batchRunner.wake(),
    services: [files, rescue, dispatcher, batchRunner, sender, ...sources],
    drain: () => dispatcher.stop(),
    cut: () => dispatcher.cut(),
  }
}
