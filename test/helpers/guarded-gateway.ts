import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { startApp, type RunningApp } from '../../src/app.ts'
import { systemClock } from '../../src/core/clock.ts'
import { makeAccess } from '../../src/gateway/auth/access-parts.ts'
import { permissions } from '../../src/config/schema.ts'
import type { Permission } from '../../src/gateway/auth/caller.ts'
import { openStore } from '../../src/storage/open-store.ts'
import { makeConfig } from './gateway.ts'

type Tree = Record<string, unknown>

export type Reply = { status: number; headers: Headers; text: string }
export type NewKey = { tenant: string; roles: readonly Permission[] }

/** Makes a key in the storage of a server that does not run yet, as `autoglm key create --direct` does. */
export async function makeFirstKey(
  dataDir: string,
  { tenant, roles }: NewKey = { tenant: 'root', roles: ['admin'] },
): Promise<string> {
  const config = await makeConfig({ dataDir })
  const log = pino({ level: 'silent' })
  const store = await openStore(config.storage, { dataDir, clock: systemClock, log })
  await store.start()
  try {
    const access = makeAccess({ config: () => config, store, env: {}, clock: systemClock, log })
    const { text } = await access.keys.create({
      ...{ tenant, roles, name: 'first', limits: null, expiresAtMs: null },
    })
    return text
  } finally {
    await store.stop()
  }
}

/** The whole server in this process with authentication on, and keys of tenants to ask it with. */
export class GuardedGateway implements AsyncDisposable {
  readonly app: RunningApp
  readonly admin: string
  readonly folder: string
  readonly #keys = new Map<string, string>()

  private constructor(app: RunningApp, admin: string, folder: string) {
    this.app = app
    this.admin = admin
    this.folder = folder
  }

  static async start(tree: Tree, env: NodeJS.ProcessEnv = {}): Promise<GuardedGateway> {
    const folder = await mkdtemp(join(tmpdir(), 'autoglm-guarded-'))
    const admin = await makeFirstKey(folder)
    const auth = { required: true, ...(tree['auth'] as Tree | undefined) }
    const config = await makeConfig({ dataDir: folder, ...tree, auth }, env)
    return new GuardedGateway(await startApp(config, { version: 'test', env }), admin, folder)
  }

  get url(): string {
    return this.app.url
  }

  /** A key of a tenant with these roles; the same one each time. */
  async keyOf(tenant: string, roles: readonly Permission[] = permissions.slice(0, 3)): Promise<string> {
    const name = `${tenant} ${roles.join(' ')}`
    const known = this.#keys.get(name)
    if (known !== undefined) return known
    const { status, text } = await this.ask(this.admin, 'POST', '/v1/admin/keys', { tenant, roles })
    if (status !== 200) throw new Error(`no key for ${name}: ${text}`)
    const { key } = JSON.parse(text) as { key: string }
    this.#keys.set(name, key)
    return key
  }

  /** One request with a key or without; what is not a string or a form is sent as JSON. */
  async ask(
    key: string | null,
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Reply> {
    const isRaw = body === undefined || typeof body === 'string' || body instanceof FormData
    const response = await fetch(this.url + path, {
      method,
      redirect: 'manual',
      headers: {
        ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        ...(body === undefined || body instanceof FormData ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: isRaw ? body : JSON.stringify(body) }),
    })
    return { status: response.status, headers: response.headers, text: await response.text() }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.app.stop({ force: true })
    await rm(this.folder, { recursive: true, force: true })
  }
}
