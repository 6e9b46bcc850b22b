import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Clock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import type { Service } from '../core/service.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Instance } from './instance.ts'
import { forgive } from './outlier.ts'
import type { Registry } from './registry.ts'

type LaunchLimits = {
  startTimeoutMs: number
  restartDelayMs: number
  restartDelayMaxMs: number
  drainTimeoutMs: number
  /** How long others may go on sending to an instance after it was taken out of the traffic. */
  drainSettleMs: number
}

/** What the engine tells its parent over the IPC channel. */
type EngineMessage = { type: 'ready' } | { type: 'failed'; message: string }

type StartOutcome = { kind: 'ready' } | { kind: 'failed'; message: string } | { kind: 'ended'; how: string }

/** An instance that was never ready is given up after so many processes: what ails it will not pass by itself. */
const startsMax = 4
/** A process that has run this long was healthy: its next crash waits for the shortest delay again. */
const healthyAfterMs = 60_000
/** From SIGTERM to SIGKILL, once nothing is in flight any more. */
const killAfterMs = 2_000

/** The program of an instance: beside this file as TypeScript in a checkout, as JavaScript in the package. */
const enginePath = fileURLToPath(
  new URL(`../../engine/main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
)

/**
 * Runs one local instance in a process of its own: starts it, waits until it is ready, restarts it with a growing
 * delay when it ends, and drains it before it stops.
 *
 *   starting -> ready -> (crashed -> starting -> ready)* -> draining -> stopped
 */
export class LocalProcess implements Service {
  readonly name: string
  readonly #instance: Instance
  readonly #args: readonly string[]
  readonly #registry: Registry
  readonly #limits: () => LaunchLimits
  readonly #clock: Clock
  readonly #log: Logger
  readonly #stopping = new AbortController()
  #child: ChildProcess | null = null
  #running: Promise<void> | null = null

  constructor(parts: {
    instance: Instance
    /** Flags of the engine, see `engine/options.ts`. */
    args: readonly string[]
    registry: Registry
    limits: () => LaunchLimits
    clock: Clock
    log: Logger
  }) {
    this.name = `instance ${parts.instance.id}`
    this.#instance = parts.instance
    this.#args = parts.args
    this.#registry = parts.registry
    this.#limits = parts.limits
    this.#clock = parts.clock
    this.#log = parts.log.child({ instance: parts.instance.id })
  }

  /**
   * Resolves when the instance is ready for the first time. Throws a SetupError when the engine says that it can't
   * run (a broken model file, say), when it ends again and again, or when it is not ready in `startTimeoutMs`.
   */
  start(): Promise<void> {
    const { startTimeoutMs } = this.#limits()
    const { id } = this.#instance
    const started = Promise.withResolvers<void>()
    const refuse = (reason: string) => started.reject(new SetupError(reason))
    const cancel = this.#clock.after(startTimeoutMs, () =>
      refuse(
        `Instance ${id} was not ready within ${startTimeoutMs / 1000} s; health.startTimeoutMs allows more.`,
      ),
    )
    this.#stopping.signal.addEventListener('abort', () =>
      refuse(`Instance ${id} was stopped before it was ready.`),
    )
    this.#running ??= this.#keepRunning(started.resolve, refuse).catch((error: unknown) => {
      this.#log.error({ err: error }, 'the launcher failed')
      started.reject(error)
    })
    return started.promise.finally(cancel)
  }

  /** Ends a process that hangs; it comes back as after a crash. SIGKILL reaches a stopped process too. */
  kill(): void {
    this.#child?.kill('SIGKILL')
  }

  /** Lets requests in flight finish, up to `drainTimeoutMs`, then ends the process. */
  async stop(): Promise<void> {
    const child = this.#child
    const { state } = this.#instance
    if (state === 'ready' || state === 'unready') this.#registry.move(this.#instance, 'draining')
    this.#stopping.abort(new Error('stopping'))
    if (child && child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit')
      await waitUntilIdle(this.#instance, this.#limits(), this.#clock)
      child.kill('SIGTERM')
      const cancel = this.#clock.after(killAfterMs, () => child.kill('SIGKILL'))
      await exited
      cancel()
    }
    await this.#running
    this.#registry.move(this.#instance, 'stopped')
  }

  async #keepRunning(onReady: () => void, onRefused: (reason: string) => void): Promise<void> {
    const stopping = this.#stopping.signal
    const { id } = this.#instance
    let delayMs = this.#limits().restartDelayMs
    let wasReady = false
    for (let starts = 1; !stopping.aborted; starts += 1) {
      const startedAtMs = this.#clock.now()
      const child = this.#spawn()
      const ended = describeEnd(child)
      const outcome = await this.#awaitReady(child, ended)
      if (stopping.aborted) break
      if (outcome.kind === 'ready') {
        wasReady = true
        forgive(this.#instance)
        this.#registry.move(this.#instance, 'ready')
        onReady()
      }
      const how = await ended
      if (stopping.aborted) break
      this.#registry.move(this.#instance, 'crashed')
      const reason = outcome.kind === 'failed' ? outcome.message : how
      if (!wasReady && (outcome.kind === 'failed' || starts === startsMax)) {
        onRefused(
          outcome.kind === 'failed'
            ? reason
            : `Instance ${id} ended ${starts} times before it was ready: ${how}.`,
        )
      }
      if (this.#clock.now() - startedAtMs > healthyAfterMs) delayMs = this.#limits().restartDelayMs
      this.#log.error({ reason, restartInMs: delayMs }, 'instance ended; it will be restarted')
      await this.#clock.sleep(delayMs, stopping).catch(() => {})
      if (stopping.aborted) break
      delayMs = Math.min(delayMs * 2, this.#limits().restartDelayMaxMs)
      this.#registry.move(this.#instance, 'starting')
    }
  }

  #spawn(): ChildProcess {
    const child = spawn(process.execPath, [enginePath, ...this.#args], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      // A group of its own: Ctrl-C at the terminal reaches the server alone, which lets the instances finish.
      // When the server dies without a word, the engine sees the channel close and ends by itself.
      detached: true,
    })
    child.on('error', (error) => this.#log.error({ err: error }, 'instance could not be started'))
    this.#child = child
    return child
  }

  #awaitReady(child: ChildProcess, ended: Promise<string>): Promise<StartOutcome> {
    const told = new Promise<StartOutcome>((resolve) => {
      child.on('message', (message: EngineMessage) => {
        resolve(message.type === 'ready' ? { kind: 'ready' } : { kind: 'failed', message: message.message })
      })
    })
    return Promise.race([told, ended.then((how): StartOutcome => ({ kind: 'ended', how }))])
  }
}

/** Resolves when the process is gone, with how it went. */
function describeEnd(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message))
    child.once('exit', (code, signal) => resolve(signal ? `killed by ${signal}` : `exit code ${code}`))
  })
}

/** Waits until an instance has nothing in flight, at most `drainTimeoutMs`. */
export async function waitUntilIdle(
  instance: Instance,
  { drainTimeoutMs, drainSettleMs }: Pick<LaunchLimits, 'drainTimeoutMs' | 'drainSettleMs'>,
  clock: Clock,
): Promise<void> {
  const deadlineMs = clock.now() + drainTimeoutMs
  if (drainSettleMs > 0) await clock.sleep(drainSettleMs)
  while (instance.inFlight > 0 && clock.now() < deadlineMs) await clock.sleep(10)
}
