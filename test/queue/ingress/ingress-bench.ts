import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import pino from 'pino'
import { systemClock, type Clock } from '../../../src/core/clock.ts'
import { createSource } from '../../../src/queue/ingress/create-source.ts'
import type { IngressConfig, SourceParts, TaskSource } from '../../../src/queue/ingress/source.ts'
import { ProgressBoard } from '../../../src/queue/progress.ts'
import { Queue, type QueueSettings } from '../../../src/queue/queue.ts'
import { SqliteStore } from '../../../src/storage/sqlite/sqlite-store.ts'
import type { TaskRow } from '../../../src/storage/task-store.ts'
import { makeConfig } from '../../helpers/gateway.ts'

export type IngressBench = {
  queue: Queue
  settings: { -readonly [K in keyof QueueSettings]: QueueSettings[K] }
  lines: string[]
  /** Models that are served. */
  models: Set<string>
  /** Started, and stopped at the end of the test. */
  source: (
    config: Partial<IngressConfig> & { url: string },
    more?: Partial<SourceParts>,
  ) => Promise<TaskSource>
  tasks: (tenant?: string) => Promise<TaskRow[]>
}

/** The pauses of a source, twenty times as short; brokers and sockets keep their own time. */
const hurriedClock: Clock = {
  ...systemClock,
  after: (ms, run) => systemClock.after(ms / 20, run),
  sleep: (ms, signal) => systemClock.sleep(ms / 20, signal),
}

/** A queue on a real store, and sources that fill it. */
export async function makeBench(t: TestContext): Promise<IngressBench> {
  const folder = await mkdtemp(join(tmpdir(), 'autoglm-ingress-'))
  const clock = systemClock
  const lines: string[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
  const store = new SqliteStore({ path: join(folder, 'tasks.db'), clock, log })
  await store.start()
  const settings = { ...(await makeConfig({})).queue }
  const models = new Set(['m'])
  const queue = new Queue({
    store,
    clock,
    settings: () => settings,
    rulesOf: () => ({ weight: 1, bandMin: 0, mayUse: () => true }),
    isServed: (model) => models.has(model),
    progress: new ProgressBoard(clock),
    log,
  })
  const sources: TaskSource[] = []
  t.after(async () => {
    await Promise.all(sources.map((source) => source.stop()))
    await store.stop()
    await rm(folder, { recursive: true })
  })
  const rules = () => ({ bodyBytesMax: 65_536, jsonDepthMax: 16, webhooks: { secrets: [], allowPrivate: false } })
  return {
    queue,
    settings,
    lines,
    models,
    async source(config, more = {}) {
      const whole = { name: 'in', passwordEnv: '', queue: 'q', prefetch: 64, deliveriesMax: 3, ...config }
      const source = createSource(whole, { queue, clock: hurriedClock, log, rules, env: {}, random: () => 0, ...more })
      sources.push(source)
      await source.start()
      return source
    },
    tasks: (tenant = 'default') => queue.list({ tenant, limit: 1_000 }),
  }
} // prettier-ignore

/** The JSON of a task that nothing is wrong with. */
export const taskBody = (more: object = {}): Buffer =>
  Buffer.from(JSON.stringify({ endpoint: '/v1/completions', body: { model: 'm', prompt: 'Hi' }, ...more }))
