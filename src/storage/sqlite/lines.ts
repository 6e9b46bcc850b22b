import type { Database } from './database.ts'

type Line = {
  model: string
  band: number
  /** The largest finish tag that was ever given out. */
  finishMax: number
  /** The finish tags of tenants that were asked for since the line was loaded. */
  lanes: Map<string, number>
  changed: Set<string>
  /** The smallest tag that waits; null when none does, undefined when it has to be looked up. */
  first: number | null | undefined
}

const lanesMax = 100_000

/**
 * The order within a model and band: start-time fair queueing (Goyal, Vin and Cheng 1996). A task starts where its
 * tenant's last one finished, or where the line stands now, whichever is later; so a tenant that queued ten thousand
 * does not keep another's first one waiting.
 */
export class Lines {
  readonly #database: Database
  readonly #lines = new Map<string, Line>()
  readonly #changed = new Set<Line>()
  #size = 0

  constructor(database: Database) {
    this.#database = database
  }

  /** The tag of a task that joins the line now. */
  takeTag(task: { model: string; band: number; tenant: string; cost: number }): number {
    const line = this.#line(task.model, task.band)
    if (line.first === undefined) line.first = this.#lookUpFirst(line)
    const now = line.first ?? line.finishMax
    const tag = Math.max(this.#finish(line, task.tenant), now)
    const finish = tag + task.cost
    line.lanes.set(task.tenant, finish)
    line.changed.add(task.tenant)
    this.#changed.add(line)
    line.finishMax = Math.max(line.finishMax, finish)
    line.first ??= tag
    return tag
  }

  /** Tasks have left or joined lines by another way than `takeTag`. */
  forgetFirsts(): void {
    for (const line of this.#lines.values()) line.first = undefined
  }

  /** Writes what has changed. To be called before each commit. */
  flush(): void {
    const write = this.#database.sql(
      `INSERT INTO lanes (model, band, tenant, finish) VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET finish = excluded.finish`,
    )
    for (const line of this.#changed) {
      for (const tenant of line.changed) {
        write.run(line.model, line.band, tenant, line.lanes.get(tenant) as number)
      }
      line.changed.clear()
    }
    this.#changed.clear()
    if (this.#size > lanesMax) this.forget()
  }

  /** After a rollback: what is in memory was never written. */
  forget(): void {
    this.#lines.clear()
    this.#changed.clear()
    this.#size = 0
  }

  /** Finish tags behind the place where a line stands say nothing any more; the largest one stays. */
  prune(limit: number): number {
    this.forget()
    let removed = 0
    const lines = this.#database
      .sql('SELECT model, band, max(finish) AS finishMax FROM lanes GROUP BY model, band')
      .all() as { model: string; band: number; finishMax: number }[]
    for (const { model, band, finishMax } of lines) {
      const line = this.#line(model, band)
      const now = this.#lookUpFirst(line) ?? finishMax
      removed += Number(
        this.#database
          .sql(
            `DELETE FROM lanes WHERE (model, band, tenant) IN (
               SELECT model, band, tenant FROM lanes WHERE model = ? AND band = ? AND finish <= ? AND finish < ? LIMIT ?)`,
          )
          .run(model, band, now, finishMax, limit - removed).changes,
      )
      if (removed >= limit) break
    }
    this.forget()
    return removed
  }

  #finish(line: Line, tenant: string): number {
    let finish = line.lanes.get(tenant)
    if (finish === undefined) {
      const row = this.#database
        .sql('SELECT finish FROM lanes WHERE model = ? AND band = ? AND tenant = ?')
        .get(line.model, line.band, tenant) as { finish: number } | undefined
      finish = row?.finish ?? 0
      line.lanes.set(tenant, finish)
      this.#size += 1
    }
    return finish
  }

  #lookUpFirst(line: Line): number | null {
    const row = this.#database
      .sql('SELECT tag FROM tasks WHERE model = ? AND band = ? AND status = 1 ORDER BY tag LIMIT 1')
      .get(line.model, line.band) as { tag: number } | undefined
    return row?.tag ?? null
  }

  #line(model: string, band: number): Line {
    const key = `${band} ${model}`
    let line = this.#lines.get(key)
    if (!line) {
      const row = this.#database
        .sql('SELECT max(finish) AS finishMax FROM lanes WHERE model = ? AND band = ?')
        .get(model, band) as { finishMax: number | null }
      line = {
        model,
        band,
        finishMax: row.finishMax ?? 0,
        lanes: new Map(),
        changed: new Set(),
        first: undefined,
      }
      this.#lines.set(key, line)
      this.#size += 1
    }
    return line
  }
}
