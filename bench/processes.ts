import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * The processes of a benchmark. Whatever ends it (the last table, an error, Ctrl-C), none is left behind: they are
 * stopped from here and, should this process be killed, by the system, where it has util-linux.
 */

export const scratchDir = join(import.meta.dirname, '.scratch')

/** What is measured has a core of its own where there are two; whatever drives and answers it shares the other. */
export const cores = { load: 0, measured: 1, any: null } as const
export type Core = number | null
export const canPin = availableParallelism() > 1 && spawnSync('taskset', ['--version']).status === 0
const canFollow = spawnSync('setpriv', ['--pdeathsig', 'TERM', 'true']).status === 0

const stopTimeoutMs = 8_000
const readyTimeoutMs = 60_000

type Program = {
  name: string
  command: string
  args: readonly string[]
  core: Core
  env?: Record<string, string>
  /** `true` opens a channel for messages. */
  channel?: boolean
}

export type Running = { name: string; pid: number; child: ChildProcess; stop(): Promise<void> }

const running = new Set<Running>()
let closing = false

/** Starts a program; its output goes to `.scratch/<name>.log`, an access log among it. */
export function launch(program: Program): Running {
  if (closing) throw new Error(`${program.name} is not started: the benchmark was interrupted`)
  mkdirSync(scratchDir, { recursive: true })
  const log = openSync(join(scratchDir, `${program.name}.log`), 'w')
  const [command = program.command, ...args] = [
    ...(canFollow ? ['setpriv', '--pdeathsig', 'TERM'] : []),
    ...(canPin && program.core !== null ? ['taskset', '-c', String(program.core)] : []),
    program.command,
    ...program.args,
  ]
  const child = spawn(command, args, {
    stdio: ['ignore', log, log, ...(program.channel ? (['ipc'] as const) : [])],
    env: { ...process.env, NODE_ENV: 'production', ...program.env },
  })
  closeSync(log)
  child.on('error', (error) => console.error(`${program.name}: ${error.message}`))
  const started: Running = {
    name: program.name,
    pid: child.pid ?? -1,
    child,
    stop: async () => {
      await end(child)
      running.delete(started)
    },
  }
  running.add(started)
  return started
}

/** Starts one of this folder's own programs and waits until it says that it is ready. */
export async function launchOwn(
  program: Omit<Program, 'command' | 'args' | 'channel'> & { file: string; args?: readonly string[] },
): Promise<{ program: Running; port: number }> {
  const started = launch({
    ...program,
    command: process.execPath,
    args: [join(import.meta.dirname, program.file), ...(program.args ?? [])],
    channel: true,
  })
  const { port } = (await nextMessage(started)) as { port: number }
  return { program: started, port }
}

/** Sends one message and waits for the one that answers it. */
export async function ask(program: Running, message: object): Promise<unknown> {
  const answer = nextMessage(program)
  program.child.send(message)
  return answer
}

async function nextMessage({ name, child }: Running): Promise<unknown> {
  const settled = new AbortController()
  const exit = once(child, 'exit', { signal: settled.signal }).then(() => {
    throw new Error(describeEarlyEnd(name))
  })
  try {
    const [message] = (await Promise.race([once(child, 'message', { signal: settled.signal }), exit])) as [
      unknown,
    ]
    return message
  } finally {
    settled.abort()
    exit.catch(() => {})
  }
}

function describeEarlyEnd(name: string): string {
  const lines = readFileSync(join(scratchDir, `${name}.log`), 'utf8')
    .trim()
    .split('\n')
  return `${name} ended early: ${lines[0] || 'without a word'} (bench/.scratch/${name}.log)`
}

/** Waits until `url` answers 200. */
export async function waitUntilReady(
  { name, child }: Running,
  url: string,
  headers: Record<string, string> = {},
): Promise<void> {
  const deadline = performance.now() + readyTimeoutMs
  for (;;) {
    const status = await fetch(url, { headers }).then(
      async (response) => {
        await response.arrayBuffer()
        return response.status
      },
      () => 0,
    )
    if (status === 200) return
    if (child.exitCode !== null) throw new Error(describeEarlyEnd(name))
    if (performance.now() > deadline)
      throw new Error(`${name} did not get ready; see bench/.scratch/${name}.log`)
    await sleep(50)
  }
}

export async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address ? address.port : 0
}

export async function stopAll(): Promise<void> {
  await Promise.all([...running].map((program) => program.stop()))
  rmSync(dataDir, { recursive: true, force: true })
}

/** Where each gateway keeps what it stores; gone after the benchmark. */
export const dataDir = join(scratchDir, 'data')

/** Stops all, and lets no other start. */
export async function closeForGood(): Promise<void> {
  closing = true
  await stopAll()
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs)
  await exited
  clearTimeout(timer)
}
