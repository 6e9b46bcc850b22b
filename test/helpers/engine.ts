import { fork, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { InstanceMessage } from '../../engine/program.ts'
import type { InstanceInfo } from '../../engine/run.ts'

/** The bundled model. */
export const tinyPath = fileURLToPath(new URL('../../models/tiny/tiny.gguf', import.meta.url))
/** A model that nobody here trained, with a known continuation; not part of the project. */
export const storiesPath = fileURLToPath(new URL('../../../shared/models/stories260K.gguf', import.meta.url))
/** For `skip`: false, or the reason. */
export const storiesMissing = existsSync(storiesPath) ? false : `${storiesPath} is not there`

const mainPath = fileURLToPath(new URL('../../engine/main.ts', import.meta.url))

export type StartedEngine = {
  /** `http://127.0.0.1:…`, or null when it listens on a Unix socket. */
  url: string | null
  socketPath: string | null
  pid: number
  info: InstanceInfo
  child: ChildProcess
  /** Resolves with the exit code, or the signal that ended it. */
  exited: Promise<number | string>
  /** SIGTERM, and waits for the exit. */
  stop(): Promise<number | string>
}

export type EngineFlags = {
  model?: string
  socketPath?: string
  parallel?: number
  waitingMax?: number
  contextTokens?: number
  /** Further flags, as on the command line. */
  flags?: readonly string[]
}

/** Starts an engine in a process of its own. Rejects with the message of an engine that fails to start. */
export async function startEngine(options: EngineFlags = {}): Promise<StartedEngine> {
  const { child, exited } = forkEngine(toArguments(options))
  const message = await new Promise<InstanceMessage>((resolve, reject) => {
    child.once('message', (received) => resolve(received as InstanceMessage))
    void exited.then((code) => reject(new Error(`the engine ended with ${code} before it was ready`)))
  })
  if (message.type === 'failed') throw new Error(message.message)
  return {
    url: message.model.url,
    socketPath: message.model.socketPath,
    pid: child.pid as number,
    info: message.model,
    child,
    exited,
    stop() {
      child.kill('SIGTERM')
      return exited
    },
  }
}

/** The bare process, for tests of how it starts and ends. */
export function forkEngine(args: readonly string[]): {
  child: ChildProcess
  exited: Promise<number | string>
  stderr: () => string
} {
  const child = fork(mainPath, args, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const exited = new Promise<number | string>((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'))
  })
  return { child, exited, stderr: () => stderr }
}

export function toArguments(options: EngineFlags): string[] {
  return [
    ...['--model', options.model ?? tinyPath],
    ...(options.socketPath === undefined ? ['--port', '0'] : ['--socket', options.socketPath]),
    ...['--parallel', String(options.parallel ?? 4), '--waiting-max', String(options.waitingMax ?? 16)],
    ...['--context-tokens', String(options.contextTokens ?? 512), '--threads', '1'],
    ...(options.flags ?? []),
  ]
}
