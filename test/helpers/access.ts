import pino from 'pino'
import type { Config } from '../../src/config/schema.ts'
import type { Clock } from '../../src/core/clock.ts'
import { ApiError } from '../../src/core/errors.ts'
import { makeAccess, type AccessParts } from '../../src/gateway/auth/access-parts.ts'
import type { Caller } from '../../src/gateway/auth/caller.ts'
import type { Store } from '../../src/storage/store.ts'
import { ManualClock } from './clock.ts'
import { makeConfig } from './gateway.ts'
import { Folder, TestStore } from './sqlite.ts'

type Tree = Record<string, unknown>

/** A gate and what belongs to it, over a store. */
export class TestAccess implements AsyncDisposable {
  readonly parts: AccessParts
  readonly store: Store
  readonly log: string[]
  readonly #close: () => Promise<void>

  private constructor(parts: AccessParts, more: { store: Store; log: string[]; close: () => Promise<void> }) {
    this.parts = parts
    this.store = more.store
    this.log = more.log
    this.#close = more.close
  }

  /** With a store of its own, unless one is given: that one is left running. */
  static async open(
    tree: { auth?: Tree; tenants?: Tree } = {},
    options: { store?: Store; clock?: Clock; env?: NodeJS.ProcessEnv } = {},
  ): Promise<TestAccess> {
    const { env = {}, clock = new ManualClock() } = options
    const config: Config = await makeConfig({ ...tree, auth: { required: true, ...tree.auth } }, env)
    let store = options.store
    let closeStore = () => Promise.resolve()
    if (!store) {
      const folder = await Folder.make()
      const own = await TestStore.open(folder.database)
      store = own
      closeStore = async () => {
        await own.stop()
        await folder[Symbol.asyncDispose]()
      }
    }
    const lines: string[] = []
    const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
    const parts = makeAccess({ config: () => config, store, env, clock, log })
    await parts.gate.start().catch(async (error: unknown) => {
      await closeStore()
      throw error
    })
    const close = async () => {
      await parts.gate.stop()
      await closeStore()
    }
    return new TestAccess(parts, { store, log: lines, close })
  }

  /** Who a credential belongs to. */
  async identify(credential: string, headers: Record<string, string> = {}): Promise<Caller> {
    return this.parts.gate.identify({ headers: { authorization: `Bearer ${credential}`, ...headers } })
  }

  /** The error that a credential meets. */
  async refusal(credential: string, headers: Record<string, string> = {}): Promise<ApiError> {
    try {
      await this.identify(credential, headers)
    } catch (error) {
      if (error instanceof ApiError) return error
      throw error
    }
    throw new Error('the credential was taken')
  }

  async makeKey(more: Partial<Parameters<AccessParts['keys']['create']>[0]> = {}) {
    const given = { tenant: 'acme', name: 'test', roles: ['inference'] as const, limits: null, expiresAtMs: null }
    const made = await this.parts.keys.create({ ...given, ...more })
    // So that no news of it is under way any more when the test goes on.
    await this.parts.watch.refresh()
    return made
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close()
  }
} // prettier-ignore
