import type { Clock } from '../../core/clock.ts'
import type { Logger } from '../../telemetry/log.ts'
import { reconnectDelayMs } from './verdict.ts'

/** A connection that was opened and takes messages. */
export type Session = {
  /** Resolves when it has ended, with the reason; never rejects. */
  readonly ended: Promise<string>
  /** Settles what is under way and disconnects; safe to repeat. */
  close(): Promise<void>
}

type Reconnecting = {
  open: () => Promise<Session>
  clock: Clock
  log: Logger
  random: () => number
  onChange: (connected: boolean) => void
}

/** A connection that breaks sooner than this after it was opened counts as a failure more, not as a fresh start. */
const steadyMs = 10_000

/** Opens a session, and another whenever it ends, until `signal` aborts; then the last one is closed. */
export async function keepOpen(parts: Reconnecting, signal: AbortSignal): Promise<void> {
  const { open, clock, log, random, onChange } = parts
  let failures = 0
  while (!signal.aborted) {
    let openedMs: number | null = null
    let reason: string
    try {
      const session = await orStop(open(), signal)
      if (session === null) return
      openedMs = clock.now()
      onChange(true)
      log.info('broker connected')
      reason = await untilEnd(session, signal)
      onChange(false)
      await session.close()
    } catch (error) {
      reason = describe(error)
    }
    if (signal.aborted) return
    failures = openedMs !== null && clock.now() - openedMs >= steadyMs ? 1 : failures + 1
    const delayMs = reconnectDelayMs(failures, random())
    // The first is news; further ones of the same outage are noise.
    const level = failures === 1 || openedMs !== null ? 'warn' : 'debug'
    log[level]({ reason, retryInMs: delayMs }, 'broker not connected; tasks of other ways are not affected')
    await clock.sleep(delayMs, signal).catch(() => {})
  }
}

/** Null when it was stopped first; what is opened after that is closed again. */
function orStop(opening: Promise<Session>, signal: AbortSignal): Promise<Session | null> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      resolve(null)
      opening.then((session) => session.close()).catch(() => {})
    }
    if (signal.aborted) return onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    void opening.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

function untilEnd(session: Session, signal: AbortSignal): Promise<string> {
  return new Promise((resolve) => {
    const onAbort = () => resolve('stopped')
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    void session.ended.then((reason) => {
      signal.removeEventListener('abort', onAbort)
      resolve(reason)
    })
  })
}

/** Messages of the clients name hosts, codes and queues, and no passwords. An unreachable host has several errors in one. */
export function describe(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return describe(error.errors[0])
  return error instanceof Error ? (error.message || error.name).slice(0, 300) : 'unknown'
}
