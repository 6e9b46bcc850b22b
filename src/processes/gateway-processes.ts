import cluster, { type Worker } from 'node:cluster'
import type { Duplex, Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Config } from '../config/schema.ts'
import type { Clock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import type { Service } from '../core/service.ts'
import { Wire } from '../core/wire.ts'
import type { Logger } from '../telemetry/log.ts'
import { breakHandedOver } from './handed-over.ts'
import { forwardLines } from './log-lines.ts'
import type { MachineState, Started, Welcome } from './messages.ts'

/** One that has served this long was well: its next crash waits for the shortest delay again. */
const healthyAfterMs = 60_000
const restartDelayMs = { first: 100, max: 5_000 } as const
const startTimeoutMs = 60_000
/** Beyond the time for the requests in flight, for everything else that a process does before it ends. */
const stopSlackMs = 5_000
/** How often each is asked whether it is well, and how long it may be silent: then it hangs, and is ended. */
const askEveryMs = 1_000
const silentMsMax = 15_000
/** The descriptor of a child's end of its wire; see `gateway-main.ts`. */
const wireDescriptor = 4

const mainFile = fileURLToPath(
  new URL(`../gateway-main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
)

export type GatewayProcess = { number: number; pid: number; wire: Wire }

type Member = GatewayProcess & {
  worker: Worker
  startedAtMs: number
  url: string | null
  ended: Promise<string>
  /** When it was asked the question that it has not answered yet. */
  askedAtMs: number | null
  isLate: boolean
}

type Parts = {
  count: number
  version: string
  config: () => Config
  state: () => MachineState
  clock: Clock
  log: Logger
  /** For the lines of the others' logs. */
  writeLine: (line: string) => void
  /** Called with each process before it begins: what it asks is answered from then on. */
  attach: (process: GatewayProcess) => void
  /** Called when one that served is gone. */
  onLost: (process: GatewayProcess) => void
}

/**
 * The processes that take requests: started together, replaced when they end, drained at the end. They share one
 * listening socket, which this process holds: it accepts connections and hands them out in turn, so that each process
 * has as many, and none waits for one that is gone.
 */
export class GatewayProcesses implements Service {
  readonly name = 'gateway processes'
  /** Replaced since the start. */
  restarts = 0
  readonly #parts: Parts
  readonly #members = new Map<number, Member>()
  readonly #delays = new Map<number, number>()
  readonly #starting = new AbortController()
  #stopping: Promise<void> | null = null
  #isStopping = false
  #stopAsking = () => {}
  #url = ''
  /** What the processes listen on; all must name the same. */
  #port: number
  #knownPort: number | null = null

  constructor(parts: Parts) {
    this.#parts = parts
    this.#port = parts.config().server.port
  }

  /** Where they listen. */
  get url(): string {
    return this.#url
  }

  /** Those that serve now. */
  get serving(): readonly GatewayProcess[] {
    return [...this.#members.values()].filter(({ url }) => url !== null)
  }

  /** Of all, those that are about to serve among them. */
  get wires(): readonly Wire[] {
    return [...this.#members.values()].map(({ wire }) => wire)
  }

  /** Resolves when all serve. Throws what the first said that can't. */
  async start(): Promise<void> {
    const { count, clock } = this.#parts
    cluster.schedulingPolicy = cluster.SCHED_RR
    cluster.setupPrimary({
      exec: mainFile,
      args: [],
      stdio: ['ignore', 'inherit', 'pipe', 'ipc', 'pipe'],
    })
    const late = Promise.withResolvers<never>()
    const onStop = () => late.reject(new SetupError('The server was stopped before it served.'))
    this.#starting.signal.addEventListener('abort', onStop)
    try {
      const all = Array.from({ length: count }, (_, i) => this.#launch(i + 1))
      await Promise.race([Promise.all(all), late.promise])
      for (const member of this.#members.values()) this.#watch(member)
      this.#stopAsking = clock.every(askEveryMs, () => {
        for (const member of this.#members.values()) if (member.url !== null) this.#askIfWell(member)
      })
    } catch (error) {
      this.#isStopping = true
      this.kill()
      throw error
    } finally {
      this.#starting.signal.removeEventListener('abort', onStop)
    }
  }

  /** Each finishes its requests, up to the time for that; then they end. */
  stop(): Promise<void> {
    this.#stopping ??= this.#drain()
    return this.#stopping
  }

  /** Ends all at once. */
  kill(): void {
    this.#isStopping = true
    this.#starting.abort()
    for (const { worker } of this.#members.values()) worker.process.kill('SIGKILL')
  }

  /** Says something to all that there are; those that begin later are told it by their welcome. */
  broadcast(name: string, body: unknown): void {
    for (const { wire } of this.#members.values()) wire.tell(name, body)
  }

  async #drain(): Promise<void> {
    this.#isStopping = true
    this.#stopAsking()
    this.#starting.abort()
    const members = [...this.#members.values()]
    for (const { worker, wire } of members) {
      wire.tell('stop', null)
      // Closes the listening socket here, at once. A process that closed its own side first would refuse connections
      // on their way to it, and the last of them would be nobody's: left open, and never answered.
      worker.disconnect()
    }
    const limitMs = this.#parts.config().server.drainTimeoutMs + stopSlackMs
    const cancel = this.#parts.clock.after(limitMs, () => this.kill())
    await Promise.all(members.map(({ ended }) => ended))
    cancel()
  }

  /** Starts one; resolves when it serves. */
  async #launch(number: number): Promise<void> {
    // Port 0 stands for one port as long as anybody listens on it; after that, for the port that it was.
    if (this.#members.size === 0) this.#port = this.#knownPort ?? this.#port
    const { clock } = this.#parts
    const worker = cluster.fork()
    const stdio = worker.process.stdio as unknown as (Duplex | null)[]
    const wire = new Wire(stdio[wireDescriptor] as Duplex)
    const ended = new Promise<string>((resolve) => {
      worker.once('exit', (code, signal) => resolve(signal ? `killed by ${signal}` : `exit code ${code}`))
      worker.once('error', (error) => resolve(error.message))
    })
    breakHandedOver(worker, ended)
    const pid = worker.process.pid ?? -1
    const member: Member = {
      number,
      pid,
      wire,
      worker,
      startedAtMs: clock.now(),
      url: null,
      ended,
      askedAtMs: null,
      isLate: false,
    }
    this.#members.set(number, member)
    forwardLines(worker.process.stderr as Readable, {
      writeLine: this.#parts.writeLine,
      writeText: (text) => void process.stderr.write(text),
    })
    const started = Promise.withResolvers<Started>()
    wire.on('welcome', (): Welcome => {
      const { config, state, version } = this.#parts
      const { server, ...rest } = config()
      return { number, version, state: state(), config: { ...rest, server: { ...server, port: this.#port } } }
    })
    wire.on('started', (outcome: Started) => started.resolve(outcome))
    this.#parts.attach(member)
    void ended.then(() => {
      wire.close()
      if (this.#members.get(number) === member) this.#members.delete(number)
    })
    const isGone = ended.then((how) => {
      throw new Error(`Gateway process ${number} ended before it served: ${how}.`)
    })
    isGone.catch(() => {})
    const late = Promise.withResolvers<never>()
    const cancel = clock.after(startTimeoutMs, () =>
      late.reject(
        new SetupError(`Gateway process ${number} did not begin within ${startTimeoutMs / 1000} s.`),
      ),
    )
    const outcome = await Promise.race([started.promise, isGone, late.promise]).finally(cancel)
    if ('problem' in outcome)
      throw outcome.isSetup ? new SetupError(outcome.problem) : new Error(outcome.problem)
    member.url = outcome.url
    this.#url = outcome.url
    this.#knownPort = Number(new URL(outcome.url).port) || this.#port
  }

  /** Replaces one when it ends. */
  #watch(member: Member): void {
    const { clock, log, onLost } = this.#parts
    const { number, pid, startedAtMs } = member
    void member.ended.then((how) => {
      onLost(member)
      if (this.#isStopping) return
      const isWell = clock.now() - startedAtMs > healthyAfterMs
      if (isWell) this.#delays.delete(number)
      log.error({ process: number, pid, reason: how }, 'gateway process ended; another takes its place')
      this.#replaceSoon(number)
    })
  }

  /** Ends one that hangs; it is replaced as after a crash. SIGKILL reaches a stopped process too. */
  #askIfWell(member: Member): void {
    const { clock, log } = this.#parts
    const nowMs = clock.now()
    if (member.askedAtMs === null) {
      member.askedAtMs = nowMs
      const answered = () => {
        member.askedAtMs = null
        member.isLate = false
      }
      member.wire.ask('are-you-well', null).then(answered, () => {})
    } else if (nowMs - member.askedAtMs > silentMsMax) {
      // Looked at twice: after a pause of this process the answer may lie here unread.
      if (member.isLate) {
        log.error({ process: member.number, pid: member.pid }, 'gateway process hangs; it is ended')
        member.worker.process.kill('SIGKILL')
      }
      member.isLate = true
    }
  }

  #replaceSoon(number: number): void {
    const { clock, log } = this.#parts
    const delayMs = this.#delays.get(number) ?? restartDelayMs.first
    this.#delays.set(number, Math.min(delayMs * 2, restartDelayMs.max))
    clock.after(delayMs, () => {
      if (this.#isStopping) return
      this.#launch(number).then(
        () => {
          this.restarts += 1
          const member = this.#members.get(number)
          if (member) this.#watch(member)
          log.info({ process: number, pid: member?.pid }, 'gateway process serves')
        },
        (error: unknown) => {
          if (this.#isStopping) return
          log.error({ err: error, process: number }, 'gateway process could not begin; it is tried again')
          this.#members.get(number)?.worker.process.kill('SIGKILL')
          this.#replaceSoon(number)
        },
      )
    })
  }
}
