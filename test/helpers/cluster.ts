import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { eventually } from './server.ts'

const root = '/usr/lib/postgresql'

/** The newest installed server's programs, or null. */
export const binaries: string | null = existsSync(root)
  ? (readdirSync(root)
      .sort((one, other) => Number(other) - Number(one))
      .map((version) => join(root, version, 'bin'))
      .find((folder) => existsSync(join(folder, 'initdb'))) ?? null)
  : null

/** PostgreSQL refuses to run as root. */
const asPostgres =
  process.getuid?.() === 0 ? ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups'] : []

function runAs(command: string, args: readonly string[]): void {
  const [program = command, ...rest] = [...asPostgres, command, ...args]
  const { status, stderr } = spawnSync(program, rest, { cwd: tmpdir(), encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} failed: ${stderr}`)
}

/** A PostgreSQL server of a test's own, that may be killed. */
export class Cluster {
  readonly url: string
  readonly #folder: string
  readonly #bin: string
  readonly #port: number

  private constructor(folder: string, bin: string, port: number) {
    this.#folder = folder
    this.#bin = bin
    this.#port = port
    this.url = `postgres://postgres@127.0.0.1:${port}/postgres`
  }

  static async create(bin: string): Promise<Cluster> {
    const folder = await mkdtemp(join(tmpdir(), 'autoglm-pg-'))
    await chmod(folder, 0o777)
    const data = join(folder, 'data')
    runAs(join(bin, 'initdb'), [
      '--pgdata',
      data,
      '--username=postgres',
      '--auth=trust',
      '--encoding=UTF8',
      '--no-sync',
    ])
    const cluster = new Cluster(folder, bin, await findFreePort())
    await cluster.start()
    return cluster
  }

  async start(): Promise<void> {
    const [program = '', ...args] = [
      ...asPostgres,
      join(this.#bin, 'postgres'),
      ...['-D', join(this.#folder, 'data'), '-p', String(this.#port), '-k', this.#folder],
      ...['-c', 'listen_addresses=127.0.0.1', '-c', 'max_connections=50', '-c', 'shared_buffers=32MB'],
    ]
    spawn(program, args, { cwd: this.#folder, stdio: 'ignore' }).unref()
    await eventually('PostgreSQL takes connections', async () => {
      const client = new pg.Client({ connectionString: this.url, connectionTimeoutMillis: 1_000 })
      client.on('error', () => {})
      return client.connect().then(
        () => client.end().then(() => true),
        () => false,
      )
    })
  }

  /** As a power cut would: the postmaster gets no chance to tidy up, and its children follow it. */
  kill(): void {
    process.kill(this.#postmaster(), 'SIGKILL')
  }

  async remove(): Promise<void> {
    try {
      process.kill(this.#postmaster(), 'SIGQUIT')
    } catch {
      // It is down already.
    }
    await eventually(
      'PostgreSQL has ended',
      () => !existsSync(join(this.#folder, 'data', 'postmaster.pid')),
      10_000,
    ).catch(() => {})
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 })
  }

  #postmaster(): number {
    return Number(readFileSync(join(this.#folder, 'data', 'postmaster.pid'), 'utf8').split('\n')[0])
  }
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address ? address.port : 0
}
