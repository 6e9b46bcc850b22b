import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from './server.ts'

const program = process.env['AUTOGLM_TEST_REDIS_SERVER'] ?? 'redis-server'

/** For `skip` of a suite: false when there is a `redis-server` to start, else the reason; in CI that is a failure. */
export function redisSkip(): false | string {
  if (spawnSync(program, ['--version']).status === 0) return false
  const reason = `${program} is not installed; set AUTOGLM_TEST_REDIS_SERVER to where it is`
  if (process.env['CI'] === 'true') throw new Error(reason)
  console.log(`SKIPPED: ${reason}`)
  return reason
}

/** A Redis of a test's own, that may be killed, restarted empty, and stopped in the middle of everything. */
export class RedisServer {
  readonly port: number
  readonly #folder: string
  readonly #args: readonly string[]
  #child: ChildProcess | null = null

  private constructor(port: number, folder: string, args: readonly string[]) {
    this.port = port
    this.#folder = folder
    this.#args = args
  }

  static async create(args: readonly string[] = []): Promise<RedisServer> {
    const folder = await mkdtemp(join(tmpdir(), 'autoglm-redis-'))
    const server = new RedisServer(await findFreePort(), folder, args)
    await server.start()
    return server
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }

  /** It keeps nothing on disk: whenever it starts it is empty. */
  async start(): Promise<void> {
    this.#child = spawn(
      program,
      [
        ...['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.#folder],
        ...['--save', '', '--appendonly', 'no', ...this.#args],
      ],
      { stdio: 'ignore' },
    )
    await eventually('Redis takes connections', () => isOpen(this.port))
  }

  async kill(): Promise<void> {
    const child = this.#child
    this.#child = null
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }

  /** Connections stay, and nobody answers. */
  pause(): void {
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
  }

  async remove(): Promise<void> {
    await this.kill()
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    const answer = (open: boolean) => {
      socket.destroy()
      resolve(open)
    }
    socket.once('connect', () => answer(true))
    socket.once('error', () => answer(false))
  })
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address ? address.port : 0
}
