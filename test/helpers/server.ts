import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const mainFile = join(import.meta.dirname, '../../src/main.ts')

export type ServerOptions = {
  args?: readonly string[]
  /** Written into the folder; the file that is there stays when this is left out. */
  config?: object
  /** One that is there already and is not removed: a server that was killed is started in it again. */
  folder?: string
  command?: 'serve' | 'worker'
}

/** The product as a person starts it: `autoglm serve` in a process and, if none is given, an empty folder of its own. */
export class Server implements AsyncDisposable {
  readonly child: ChildProcess
  readonly folder: string
  stdout = ''
  stderr = ''
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  readonly #ownsFolder: boolean
  #heard: (() => void)[] = []

  constructor(child: ChildProcess, folder: string, { ownsFolder = true }: { ownsFolder?: boolean } = {}) {
    this.child = child
    this.folder = folder
    this.#ownsFolder = ownsFolder
    child.stdout?.on('data', (data) => this.#hear('stdout', String(data)))
    child.stderr?.on('data', (data) => this.#hear('stderr', String(data)))
    this.exit = once(child, 'exit').then(([code, signal]) => ({
      code: code as number | null,
      signal: signal as NodeJS.Signals | null,
    }))
  }

  static async spawn(options: ServerOptions = {}): Promise<Server> {
    const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'autoglm-e2e-')))
    if (options.config) await writeFile(join(folder, 'autoglm.yaml'), JSON.stringify(options.config))
    const args = [mainFile, options.command ?? 'serve', '--port', '0', ...(options.args ?? [])]
    const child = spawn(process.execPath, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
    return new Server(child, folder, { ownsFolder: options.folder === undefined })
  }

  /** Started and ready. */
  static async start(options: ServerOptions = {}): Promise<Server> {
    const server = await Server.spawn(options)
    await server.hears('stdout', /listens on/)
    return server
  }

  get url(): string {
    return /listens on (http:\S+)/.exec(this.stdout)?.[1] ?? ''
  }

  get isRunning(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  /** kill -9, or nothing when it has ended. */
  async kill(): Promise<void> {
    if (!this.isRunning) return
    this.child.kill('SIGKILL')
    await this.exit
  }

  /** Resolves when the output matches; fails when the process ends before. */
  async hears(stream: 'stdout' | 'stderr', pattern: RegExp): Promise<void> {
    while (!pattern.test(this[stream])) {
      if (!this.isRunning) throw new Error(`ended without ${pattern}: ${this.stdout}${this.stderr}`)
      const next = Promise.withResolvers<void>()
      this.#heard.push(next.resolve)
      await Promise.race([next.promise, this.exit])
    }
  }

  /** The Unix socket of a local instance, past the gateway. */
  socketOf(id: string): string {
    const pid = this.instancePids().get(id)
    return /--socket\0([^\0]+)/.exec(readProc(String(pid), 'cmdline'))?.[1] ?? ''
  }

  /** Process ids of the local instances, by id. */
  instancePids(): Map<string, number> {
    const found = new Map<string, number>()
    for (const { pid, command } of listProcesses()) {
      const socket = /--socket \S*\/\d+\.([\w.-]+)\.sock/.exec(command)
      if (socket?.[1] && parentOf(pid) === this.child.pid) found.set(socket[1], pid)
    }
    return found
  }

  /** Process ids of the gateway processes, where there are several. */
  gatewayPids(): number[] {
    return listProcesses()
      .filter(({ pid, command }) => command.includes('gateway-main') && parentOf(pid) === this.child.pid)
      .map(({ pid }) => pid)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
    if (this.#ownsFolder) await rm(this.folder, { recursive: true, force: true })
  }

  #hear(stream: 'stdout' | 'stderr', text: string): void {
    this[stream] += text
    for (const resolve of this.#heard.splice(0)) resolve()
  }
}

function listProcesses(): { pid: number; command: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({ pid: Number(name), command: readProc(name, 'cmdline').replaceAll('\0', ' ') }))
}

function parentOf(pid: number): number {
  return Number(/\) \S (\d+)/.exec(readProc(String(pid), 'stat'))?.[1])
}

function readProc(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    // It ended while the list was read.
    return ''
  }
}

/** Whether a process is there and is not a zombie. */
export function isAlive(pid: number): boolean {
  const state = /\) (\S)/.exec(readProc(String(pid), 'stat'))?.[1]
  return state !== undefined && state !== 'Z'
}

/** Looks again and again, a moment apart, until `holds`; the error after `limitMs` says what was waited for. */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
  limitMs = 20_000,
): Promise<void> {
  const deadline = performance.now() + limitMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited ${limitMs} ms in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
