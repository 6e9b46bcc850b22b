import { strict as assert } from 'node:assert'
import pg from 'pg'
import type { Clock } from '../../core/clock.ts'
import type { Logger } from '../../telemetry/log.ts'
import { StoreUnavailable } from '../store.ts'
import { judgeFailure, toUnavailable } from './failures.ts'
import { toStorable } from './values.ts'

/** Prepared once on each connection, under its name. */
export type Statement = { name: string; text: string }

export type DatabaseLimits = {
  connectTimeoutMs: number
  /** The server gives up a statement after this. */
  statementTimeoutMs: number
  /** We give up a connection that has said nothing about a statement for this long; above `statementTimeoutMs`. */
  silenceMs: number
  /** How long a call is tried again while connections are lost. */
  retryForMs: number
  /** Calls that may wait for a connection. */
  waitingMax: number
}

export const defaultLimits: DatabaseLimits = {
  connectTimeoutMs: 5_000,
  statementTimeoutMs: 8_000,
  silenceMs: 10_000,
  retryForMs: 5_000,
  waitingMax: 10_000,
}

type DatabaseOptions = {
  url: string
  connectionsMax: number
  clock: Clock
  log: Logger
  limits: DatabaseLimits
}

const conflictsMax = 20
const retryDelayMs = 50
const retryDelayMaxMs = 500

/** Every statement here is meant for an index; a plan that scans a table is a mistake of the estimates. */
const settings = {
  search_path: 'autoglm',
  jit: 'off',
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  // Planned once for each connection: a plan for the values at hand costs more than it ever gains here.
  plan_cache_mode: 'force_generic_plan',
  application_name: 'autoglm',
  // The server must notice a client that is gone, or its locks stay.
  tcp_keepalives_idle: '10',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '3',
}

/** Whole numbers of 8 bytes stay numbers: none here is beyond 2^53. */
const types = new pg.TypeOverrides()
types.setTypeParser(pg.types.builtins.INT8, Number)

/** How a connection is opened: of the pool, for listening, for migrations. */
export function makeClientConfig({ url, limits }: Pick<DatabaseOptions, 'url' | 'limits'>): pg.ClientConfig {
  return {
    connectionString: url,
    connectionTimeoutMillis: limits.connectTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    query_timeout: limits.silenceMs,
    types,
  }
}

/** What is set on each connection before its first statement. */
export async function prepareConnection(client: pg.ClientBase, limits: DatabaseLimits): Promise<void> {
  const all = {
    ...settings,
    statement_timeout: String(limits.statementTimeoutMs),
    lock_timeout: String(limits.statementTimeoutMs),
    idle_in_transaction_session_timeout: String(limits.silenceMs),
  }
  const calls = Object.keys(all).map((name, index) => `set_config('${name}', $${index + 1}, false)`)
  await client.query(`SELECT ${calls.join(', ')}`, Object.values(all))
}

/** The pool, and what makes it safe: bounded waiting, retries where they can't do harm, errors with a meaning. */
export class Database {
  readonly #options: DatabaseOptions
  #pool: pg.Pool | null = null

  constructor(options: DatabaseOptions) {
    this.#options = options
  }

  open(): void {
    const { connectionsMax, limits, log } = this.#options
    // The pool waits for what this returns, although its types do not say so.
    const onConnect = { onConnect: (client: pg.ClientBase) => prepareConnection(client, limits) }
    const pool = new pg.Pool({
      ...makeClientConfig(this.#options),
      max: connectionsMax,
      idleTimeoutMillis: 60_000,
      ...onConnect,
    })
    // One that breaks while it is in use tells its query; the pool listens to it only when it is idle.
    pool.on('connect', (client) => client.on('error', () => {}))
    // An idle connection that breaks is dropped by the pool; without a listener the process would end.
    pool.on('error', (error) => log.warn({ reason: error.message }, 'a connection to PostgreSQL broke'))
    this.#pool = pool
  }

  async close(): Promise<void> {
    const pool = this.#pool
    this.#pool = null
    await pool?.end()
  }

  /** One statement, in a transaction of its own. It must be safe to run twice: a lost connection repeats it. */
  query<R>(statement: Statement, values: readonly unknown[] = []): Promise<R[]> {
    return this.retry((client) => execute<R>(client, statement, values))
  }

  /** As `query`, but an unknown outcome is the caller's to resolve: it throws StoreUnavailable at once. */
  queryOnce<R>(statement: Statement, values: readonly unknown[] = []): Promise<R[]> {
    return this.retry((client) => execute<R>(client, statement, values), { lostMax: 0 })
  }

  /**
   * Several statements in one transaction. `again` says that an earlier try may have been committed, and `work` must
   * find out what it left.
   */
  transact<T>(work: (client: pg.ClientBase, again: boolean) => Promise<T>): Promise<T> {
    return this.retry(async (client, again) => {
      await client.query('BEGIN')
      try {
        const result = await work(client, again)
        const { command } = await client.query('COMMIT')
        assert(command === 'COMMIT', 'a failed transaction went on to its end')
        return result
      } catch (error) {
        if (judgeFailure(error) !== 'lost') await client.query('ROLLBACK').catch(() => {})
        throw error
      }
    })
  }

  /** Runs `work` on a connection, again after a conflict, and after a loss for as long as the limits say. */
  async retry<T>(
    work: (client: pg.ClientBase, again: boolean) => Promise<T>,
    { lostMax = Infinity }: { lostMax?: number } = {},
  ): Promise<T> {
    const { clock, limits } = this.#options
    const giveUpAtMs = clock.now() + limits.retryForMs
    let lost = 0
    let conflicts = 0
    for (;;) {
      const outcome = await this.#tryOnce(work, lost > 0)
      if (outcome.kind === 'done') return outcome.value
      const { failure, error } = outcome
      if (failure === 'fault') throw error
      if (failure === 'refused') throw toUnavailable(error)
      if (failure === 'conflict') {
        conflicts += 1
        if (conflicts > conflictsMax) throw toUnavailable(error)
        continue
      }
      lost += 1
      const delayMs = Math.min(retryDelayMs * 2 ** (lost - 1), retryDelayMaxMs)
      if (lost > lostMax || clock.now() + delayMs >= giveUpAtMs) throw toUnavailable(error)
      await clock.sleep(delayMs)
    }
  }

  async #tryOnce<T>(
    work: (client: pg.ClientBase, again: boolean) => Promise<T>,
    again: boolean,
  ): Promise<
    { kind: 'done'; value: T } | { kind: 'failed'; failure: ReturnType<typeof judgeFailure>; error: unknown }
  > {
    const pool = this.#pool
    if (!pool) throw new StoreUnavailable('The store is not started, or stopped.')
    if (pool.waitingCount >= this.#options.limits.waitingMax) {
      throw new StoreUnavailable(`${pool.waitingCount} calls wait for a connection to PostgreSQL already.`)
    }
    let client: pg.PoolClient
    try {
      client = await pool.connect()
    } catch (error) {
      const failure = judgeFailure(error)
      // Nothing was sent. A server that starts up or has no connection left may have one in a moment.
      return { kind: 'failed', failure: failure === 'refused' ? 'lost' : failure, error }
    }
    try {
      const value = await work(client, again)
      client.release()
      return { kind: 'done', value }
    } catch (error) {
      const failure = judgeFailure(error)
      client.release(failure === 'lost')
      return { kind: 'failed', failure, error }
    }
  }
}

/** A NUL, or half of a surrogate pair, is an error to the server: both are stored as something else (see values.ts). */
const toSendable = (value: unknown): unknown =>
  typeof value === 'string' ? toStorable(value) : Array.isArray(value) ? value.map(toSendable) : value

export async function execute<R>(
  client: pg.ClientBase,
  statement: Statement,
  values: readonly unknown[] = [],
): Promise<R[]> {
  const { rows } = await client.query({ ...statement, values: values.map(toSendable) })
  return rows as R[]
}
