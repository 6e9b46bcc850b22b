import type { Config } from './config/schema.ts'
import type { Clock } from './core/clock.ts'
import { Batches } from './queue/batches/batches.ts'
import { FileStore } from './queue/batches/file-store.ts'
import type { ProgressView } from './queue/progress.ts'
import { Queue, type TenantRules } from './queue/queue.ts'
import { ResponseEventLog } from './queue/responses/event-log.ts'
import { StoredResponses } from './queue/responses/stored-responses.ts'
import { readWebhookSettings, type WebhookSettings } from './queue/webhooks/settings.ts'
import { parseResponsesBody } from './router/responses/request.ts'
import type { Router } from './router/router.ts'
import type { Store } from './storage/store.ts'
import type { Logger } from './telemetry/log.ts'

/** Where tasks, files, batches and background responses are handed in and asked for; the work is done elsewhere. */
export type TaskDesk = {
  queue: Queue
  files: FileStore
  batches: Batches
  responses: StoredResponses
  responseEvents: ResponseEventLog
  webhooks: () => WebhookSettings
}

type Parts = {
  config: () => Config
  env: NodeJS.ProcessEnv
  store: Store
  router: Pick<Router, 'resolve'>
  rulesOf: (tenant: string) => TenantRules
  /** How long files and stored responses of a tenant are kept. */
  keepFilesMs: (tenant: string) => number
  clock: Clock
  log: Logger
  progress: ProgressView
  /** There is a batch to work on. */
  onBatch: () => void
  /** Tells of events of background streams that another process of this machine has written. */
  watchEvents?: (responseId: string, listener: () => void) => () => void
}

/** Builds it. Throws SetupError for a secret that is not there. */
export function buildTaskDesk(parts: Parts): TaskDesk {
  const { config, env, store, router, clock, log, progress, watchEvents } = parts
  const keepMs = parts.keepFilesMs
  const queue = new Queue({
    ...{ store, clock, log, progress },
    settings: () => config().queue,
    rulesOf: parts.rulesOf,
    isServed: (model) => router.resolve(model) !== null,
    checks: { '/v1/responses': (body) => void parseResponsesBody(body) },
  })
  const files = new FileStore({ store, clock, log, keepMs, settings: () => config().storage })
  // The secret belongs to the environment of the process: it is read once, the rest at each use.
  const { secrets } = readWebhookSettings(config().webhooks, env)
  return {
    ...{ queue, files },
    batches: new Batches({ store, files, clock, onChange: parts.onBatch }),
    responses: new StoredResponses({ store, clock, keepMs }),
    responseEvents: new ResponseEventLog({
      ...{ store, clock, keepMs },
      ...(watchEvents ? { watchElsewhere: watchEvents } : {}),
    }),
    webhooks: () => ({ ...config().webhooks, secrets }),
  }
}
