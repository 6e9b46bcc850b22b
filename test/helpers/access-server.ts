import pino from 'pino'
import { Registry } from '../../src/fleet/registry.ts'
import { GatewayServer } from '../../src/gateway/server.ts'
import { addAdminRoutes } from '../../src/gateway/routes/admin.ts'
import { addAuthRoutes } from '../../src/gateway/routes/auth.ts'
import { RequestBook } from '../../src/gateway/request-book.ts'
import { RequestMetrics } from '../../src/gateway/request-metrics.ts'
import { MetricsRegistry } from '../../src/telemetry/metrics.ts'
import { systemClock, type Clock } from '../../src/core/clock.ts'
import { makeConfig } from './gateway.ts'
import type { TestAccess } from './access.ts'

/** What any of the routes may answer. */
export type Reply = {
  id: string
  key: string
  status: string
  tenant: string
  name: string
  roles: string[]
  limits: Record<string, number> | null
  access_token: string
  expires_in: number
  scope: string
  keys: { kid: string; d?: string }[]
  data: Reply[]
  has_more: boolean
  last_id: string
  source: string
  version: number | null
  settings: Record<string, unknown>
  error: { code: string; message: string; param: string | null }
}

/** The real server with the routes of authentication alone, over a gate of a test. */
export class AccessServer implements AsyncDisposable {
  readonly url: string
  readonly #server: GatewayServer

  private constructor(server: GatewayServer) {
    this.#server = server
    this.url = server.url
  }

  /** `clock` is that of the routes; the server itself lives in real time. */
  static async start(access: TestAccess, clock: Clock = systemClock): Promise<AccessServer> {
    const config = await makeConfig({})
    const metrics = new MetricsRegistry()
    const log = pino({ level: 'silent' })
    const book = new RequestBook({
      clock: systemClock,
      log,
      writeLine: () => {},
      metrics: new RequestMetrics(metrics),
    })
    const settings = () => ({ jsonDepthMax: 16 })
    const server = new GatewayServer({
      ...{
        registry: new Registry(),
        metrics,
        clock: systemClock,
        log,
        book,
        components: [],
        version: 'test',
      },
      storageProblem: () => null,
      limits: config.server,
      gate: access.parts.gate,
      api: {
        calls: new Map(),
        addRoutes: (app) => {
          addAuthRoutes(app, { access: access.parts, settings })
          addAdminRoutes(app, { access: access.parts, clock, settings })
        },
      },
    })
    await server.start()
    return new AccessServer(server)
  }

  /** One request with a key, and the JSON of its answer. */
  async ask(key: string | null, path: string, init: RequestInit = {}) {
    const headers = new Headers(init.headers)
    if (key !== null) headers.set('authorization', `Bearer ${key}`)
    const response = await fetch(`${this.url}${path}`, { ...init, headers })
    const text = await response.text()
    const body = (text === '' ? {} : JSON.parse(text)) as Reply
    return { status: response.status, headers: response.headers, body }
  }

  send(key: string | null, method: string, path: string, body?: unknown) {
    const json = { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
    return this.ask(key, path, { method, ...(body === undefined ? {} : json) })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.cut()
    await this.#server.stop()
  }
}
