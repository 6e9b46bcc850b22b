import type { FastifyInstance } from 'fastify'
import type { ApiParts } from './parts.ts'
import type { RequestBook } from './request-book.ts'
import { addAdminRoutes } from './routes/admin.ts'
import { addAuthRoutes } from './routes/auth.ts'
import { addBatchRoutes } from './routes/batches.ts'
import { addFileRoutes } from './routes/files.ts'
import { addModelCallRoutes, makeModelCalls, type DirectHandler } from './routes/model-calls.ts'
import { addModelRoutes } from './routes/models.ts'
import { addResponseRoutes } from './routes/responses.ts'
import { addTaskRoutes } from './routes/tasks.ts'
import { addUsageRoutes } from './routes/usage.ts'

/** What a server offers beside its health: the calls that it takes past Fastify, and the routes that it gives to it. */
export type Api = {
  calls: ReadonlyMap<string, DirectHandler>
  addRoutes(app: FastifyInstance): void
}

export function makeApi(parts: ApiParts, book: RequestBook, limits: { bodyBytesMax: number }): Api {
  const calls = makeModelCalls(parts, book, limits)
  return {
    calls,
    addRoutes: (app) => {
      addModelCallRoutes(app, calls)
      addModelRoutes(app, parts)
      addResponseRoutes(app, parts)
      addTaskRoutes(app, parts)
      addFileRoutes(app, parts)
      addBatchRoutes(app, parts)
      addUsageRoutes(app, parts)
      addAuthRoutes(app, parts)
      addAdminRoutes(app, parts)
    },
  }
}

/** For a process that serves nothing but its health and its metrics. */
export const noApi: Api = { calls: new Map(), addRoutes: () => {} }
