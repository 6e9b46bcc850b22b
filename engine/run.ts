import { access, lstat, rm } from 'node:fs/promises'
import { connect, type AddressInfo } from 'node:net'
import type { Server } from 'node:http'
import { dirname } from 'node:path'
import { systemClock } from '../src/core/clock.ts'
import { SetupError } from '../src/core/errors.ts'
import { createEmbedder } from './embeddings.ts'
import { createEngine } from './engine.ts'
import { loadModel, type LoadedModel } from './model.ts'
import { logLevels, type EngineOptions } from './options.ts'
import { createEngineServer } from './server.ts'

/** What a running instance tells about itself. */
export type InstanceInfo = {
  name: string
  /** Where it listens: `http://127.0.0.1:8000`, or null for a Unix socket. */
  url: string | null
  socketPath: string | null
  /** Context of each sequence. */
  contextTokens: number
  /** Sequences decoded together. */
  parallel: number
  threads: number
  vocabularyTokens: number
}

export type RunningInstance = {
  info: InstanceInfo
  /** Refuses new requests, lets those in flight finish up to the limit, and frees the model. Safe to call twice. */
  stop(): Promise<void>
}

/**
 * Loads the model and serves it until `stop()`.
 * @throws SetupError with one sentence that names the way out: a missing or broken file, an address in use.
 */
export async function runInstance(
  options: EngineOptions,
  { signal }: { signal?: AbortSignal } = {},
): Promise<RunningInstance> {
  const loaded = await loadModel(options, signal)
  try {
    return await serve(loaded, options)
  } catch (error) {
    // What llama.cpp holds would keep the process alive after a start that failed.
    await loaded.dispose()
    throw error
  }
}

async function serve(loaded: LoadedModel, options: EngineOptions): Promise<RunningInstance> {
  const embedder = createEmbedder(loaded)
  const engine = createEngine({ loaded, embedder, options, clock: systemClock })
  const log = makeLog(options)
  const { server, drain, whenIdle } = createEngineServer(engine, options, log)
  try {
    await listen(server, options)
  } catch (error) {
    engine.scheduler.dispose()
    throw error
  }
  // Such as too many open files: the connection is lost, the others go on.
  server.on('error', (error) => log({ level: 'error', error: String(error) }))
  let stopping: Promise<void> | null = null
  const stopOnce = async () => {
    drain()
    const limit = new AbortController()
    const late = systemClock.sleep(options.drainTimeoutMs, limit.signal).catch(() => {})
    await Promise.race([whenIdle(), late])
    limit.abort()
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    server.closeIdleConnections()
    server.closeAllConnections()
    await closed
    await engine.scheduler.whenIdle()
    engine.scheduler.dispose()
    await embedder.dispose()
    await loaded.dispose()
  }
  return {
    info: describe(options, server, loaded),
    stop: () => (stopping ??= stopOnce()),
  }
}

function describe(
  options: EngineOptions,
  server: Server,
  loaded: { contextTokens: number; threads: number; vocabulary: { size: number } },
): InstanceInfo {
  const address = server.address()
  return {
    name: options.name,
    url: address !== null && typeof address === 'object' ? formatUrl(address) : null,
    socketPath: 'socketPath' in options.listen ? options.listen.socketPath : null,
    contextTokens: loaded.contextTokens,
    parallel: options.parallel,
    threads: loaded.threads,
    vocabularyTokens: loaded.vocabulary.size,
  }
}

function formatUrl({ address, family, port }: AddressInfo): string {
  return family === 'IPv6' ? `http://[${address}]:${port}` : `http://${address}:${port}`
}

async function listen(server: Server, options: EngineOptions): Promise<void> {
  if ('socketPath' in options.listen) await prepareSocket(options.listen.socketPath)
  const address = 'socketPath' in options.listen ? { path: options.listen.socketPath } : options.listen
  await new Promise<void>((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException) => reject(explainListen(error, options))
    server.once('error', onError)
    server.listen(address, () => {
      server.off('error', onError)
      resolve()
    })
  })
}

function explainListen(error: NodeJS.ErrnoException, options: EngineOptions): SetupError {
  const where =
    'socketPath' in options.listen
      ? `the socket ${options.listen.socketPath}`
      : `${options.listen.host}:${options.listen.port}`
  const reasons: Record<string, string> = {
    EADDRINUSE: 'it is in use. Choose another one, or stop the program that has it.',
    EACCES: 'permission is denied. Choose one that this user may open.',
    EADDRNOTAVAIL: 'this machine has no such address. Choose one of its own.',
  }
  return new SetupError(`Cannot listen on ${where}: ${reasons[error.code ?? ''] ?? error.message}`)
}

/** A socket file outlives a process that was killed. One that still answers belongs to somebody. */
async function prepareSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null)
  if (found === null) {
    // Node would call this a lack of permission.
    await access(dirname(path)).catch(() => {
      throw new SetupError(
        `Cannot listen on the socket ${path}: its folder does not exist. Make the folder first.`,
      )
    })
    return
  }
  if (!found.isSocket()) {
    throw new SetupError(
      `Cannot listen on the socket ${path}: another kind of file is there. Choose another path.`,
    )
  }
  const isStale = await new Promise<boolean>((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(false)
    })
    // Any other refusal, such as of a full backlog, comes from somebody.
    socket.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code === 'ECONNREFUSED' || error.code === 'ENOENT'),
    )
  })
  if (!isStale) {
    throw new SetupError(`Cannot listen on the socket ${path}: it is in use. Choose another one.`)
  }
  await rm(path, { force: true })
}

function makeLog(options: EngineOptions): (line: object) => void {
  const isLoud = logLevels.indexOf('error') >= logLevels.indexOf(options.logLevel)
  return (line) => {
    if (isLoud) process.stderr.write(`${JSON.stringify(line)}\n`)
  }
}
