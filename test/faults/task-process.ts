import { strict as assert } from 'node:assert'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TaskStatus } from '../../src/storage/task-states.ts'
import type { Store } from '../../src/storage/store.ts'
import { post, upstream } from '../helpers/gateway.ts'
import { eventually, Server, type ServerOptions } from '../helpers/server.ts'
import { TestStore } from '../helpers/sqlite.ts'
import { answerChat, type Behaviour, type UpstreamRequest } from '../helpers/upstream.ts'
import { History, type Verdict } from './history.ts'

type Tree = Record<string, unknown>

/** A task as the API shows it. */
export type SeenTask = {
  id: string
  status: TaskStatus
  attempts: number
  max_attempts: number
  error: { code: string } | null
  result: { choices: { message: { content: string } }[] } | null
  history: { seq: number; status: TaskStatus; attempt: number; error: { code: string } | null }[]
}

/** Each task asks for its own mark, so that the model in the test knows which one it works on. */
export const markOf = ({ json }: UpstreamRequest): string =>
  (json['messages'] as { content: string }[])[0]?.content ?? ''

/** The answer that belongs to a mark, whole. */
export const answer: Behaviour = (request, response, socket) =>
  answerChat(['re: ', markOf(request)])(request, response, socket)

/** An instance that serves the model `m` at this URL. Not probed: a test says itself when it is well. */
export const instanceAt = (url: string) => [upstream('up', url, { probe: 'off' })]

/** Settings for servers that are killed often and have little live traffic to spare for. */
export const settings = (tree: Tree = {}): Tree => ({
  log: { level: 'warn', format: 'json' },
  ...tree,
  queue: { liveReserve: 0, attemptsMax: 20, ...(tree['queue'] as Tree | undefined) },
})

/**
 * A folder in which servers are started, killed and started again, and all that was asked of them: tasks by their
 * marks. `check` compares it with what is on disk at the end.
 */
export class TaskBench implements AsyncDisposable {
  readonly folder: string
  readonly history = new History()
  /** Acknowledged tasks, by mark. */
  readonly ids = new Map<string, string>()
  /** Marks whose submission was sent and never answered. */
  readonly unanswered = new Set<string>()
  /** How often the model was asked, by mark. */
  readonly executions = new Map<string, number>()
  readonly #servers: Server[] = []

  private constructor(folder: string) {
    this.folder = folder
  }

  static async open(): Promise<TaskBench> {
    return new TaskBench(await mkdtemp(join(tmpdir(), 'autoglm-faults-')))
  }

  /** A server (or a worker) in the folder, ready. */
  async start(config: Tree, command: NonNullable<ServerOptions['command']> = 'serve'): Promise<Server> {
    // Every process has a file of its own: a server that runs would take over a changed one.
    const file = join(this.folder, `${command}-${this.#servers.length}.yaml`)
    await writeFile(file, JSON.stringify({ dataDir: 'data', ...settings(config) }))
    const server = await Server.start({ folder: this.folder, command, args: ['--config', file] })
    this.#servers.push(server)
    return server
  }

  /** Counts the calls that reach the model, then lets it behave. */
  counting(behave: Behaviour): Behaviour {
    return (request, response, socket) => {
      const mark = markOf(request)
      this.executions.set(mark, (this.executions.get(mark) ?? 0) + 1)
      return behave(request, response, socket)
    }
  }

  /**
   * Submits a task; its mark is its Idempotency-Key, so that it may be sent again. Null when the server refused it for
   * now or died before its answer.
   */
  async submit({ url }: Server, mark: string, more: Tree = {}): Promise<string | null> {
    if (!this.ids.has(mark)) this.unanswered.add(mark)
    const body = { model: 'm', messages: [{ role: 'user', content: mark }] }
    const task = { endpoint: '/v1/chat/completions', body, metadata: { mark }, ...more }
    const headers = { 'idempotency-key': mark }
    const response = await post(url, '/v1/tasks', task, { headers }).catch(() => null)
    const text = await response?.text().catch(() => null)
    if (!response || text === null || text === undefined || response.status === 503) return null
    assert.ok([200, 202].includes(response.status), `${response.status}: ${text}`)
    const { id } = JSON.parse(text) as SeenTask
    const known = this.ids.get(mark)
    assert.ok(known === undefined || known === id, `the key ${mark} stands for ${known} and for ${id}`)
    this.ids.set(mark, id)
    this.unanswered.delete(mark)
    this.history.acknowledgedId(id, 'default')
    return id
  }

  async submitOne(server: Server, mark: string, more: Tree = {}): Promise<string> {
    const id = await this.submit(server, mark, more)
    assert.ok(id !== null, `${mark} was not taken: ${server.stderr}`)
    return id
  }

  async get({ url }: Server, id: string): Promise<SeenTask> {
    const response = await fetch(`${url}/v1/tasks/${id}`)
    assert.equal(response.status, 200)
    return (await response.json()) as SeenTask
  }

  async counts({ url }: Server): Promise<Record<TaskStatus, number>> {
    const response = await fetch(`${url}/v1/tasks?limit=1`)
    return ((await response.json()) as { counts: Record<TaskStatus, number> }).counts
  }

  /** Waits until a task is in a state. */
  async reach(server: Server, id: string, status: TaskStatus, limitMs = 10_000): Promise<SeenTask> {
    let task: SeenTask | null = null
    const holds = async () => (task = await this.get(server, id)).status === status
    await eventually(`${id} is ${status}`, holds, limitMs).catch((error: Error) => {
      throw new Error(`${error.message}: it is ${JSON.stringify(task)}`)
    })
    return task as unknown as SeenTask
  }

  /**
   * Waits until nothing waits and nothing runs. By default for less than a lease: what goes on after a death must not
   * wait for one.
   */
  async finish(server: Server, limitMs = 15_000): Promise<void> {
    const holds = async () => {
      const { delayed, queued, running } = await this.counts(server)
      return delayed + queued + running === 0
    }
    await eventually('every task has ended', holds, limitMs)
  }

  /** What happened to a task, such as `running 1`, `queued 1 worker_lost`. */
  async story(server: Server, id: string): Promise<string[]> {
    const { history } = await this.get(server, id)
    return history.map(({ status, attempt, error }) => `${status} ${attempt}${error ? ` ${error.code}` : ''}`)
  }

  /** Ends all servers, then compares what is on disk with what was seen. Every result must be that of its task. */
  async check(
    openStore: () => Promise<Store & AsyncDisposable> = () =>
      TestStore.open(join(this.folder, 'data/autoglm.db')),
  ): Promise<Verdict> {
    for (const server of this.#servers) await server.kill()
    assert.equal(
      this.unanswered.size,
      0,
      'send them once more before the end: then it is known what they are',
    )
    for (const [mark, count] of this.executions) {
      const id = this.ids.get(mark) ?? `the task of ${mark}`
      for (let n = 0; n < count; n += 1) this.history.executing(id)
    }
    await using store = await openStore()
    const verdict = await this.history.check(store, { allEnded: true })
    verdict.violations.push(...(await this.#findWrongResults(store)))
    assert.deepEqual(verdict.violations, [])
    return verdict
  }

  async #findWrongResults(store: Store): Promise<string[]> {
    const wrong: string[] = []
    for (const [mark, id] of this.ids) {
      const detail = await store.tasks.get('default', id)
      if (detail?.task.status !== 'succeeded') continue
      const text = Buffer.from(detail.result ?? []).toString()
      const { choices } = JSON.parse(text) as NonNullable<SeenTask['result']>
      if (choices[0]?.message.content !== `re: ${mark}`) wrong.push(`${mark} got ${text}`)
    }
    return wrong
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await server.kill()
    await rm(this.folder, { recursive: true, force: true })
  }
}
