import type { Clock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import { ask, explainStatus, type Server } from './api-client.ts'

const firstDelayMs = 250
const delayMsMax = 5_000
/** A server that was restarted, or moved to another machine, is back by then. */
export const patienceMsMax = 600_000

export type Patience = {
  clock: Clock
  signal: AbortSignal
  /** How long in a row nobody may answer; 0 takes the first failure. */
  readonly limitMs: number
  /** Told once when it begins to wait, with the reason. */
  onWait?: (reason: string) => void
}

/** Another try can help: the server is away, is stopping, or asks to come later. */
const isPassing = (status: number) => status === 408 || status === 429 || status >= 500

/** What may mend itself; thrown by a try, and kept for the last word when patience is over. */
export class PassingFailure extends Error {
  readonly explained: Error
  readonly retryAfterMs: number

  constructor(explained: Error, retryAfterMs = 0) {
    super(explained.message, { cause: explained })
    this.explained = explained
    this.retryAfterMs = retryAfterMs
  }
}

/** Runs `attempt` until it gives something; a PassingFailure is waited out, growing slower, for `limitMs`. */
export async function keepTrying<T>(patience: Patience, attempt: () => Promise<T>): Promise<T> {
  const { clock, signal, onWait } = patience
  const startMs = clock.now()
  for (let delayMs = firstDelayMs, tries = 0; ; delayMs = Math.min(delayMsMax, delayMs * 2), tries += 1) {
    signal.throwIfAborted()
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof PassingFailure)) throw error
      const waitMs = Math.max(delayMs, error.retryAfterMs)
      if (clock.now() + waitMs - startMs > patience.limitMs) throw error.explained
      if (tries === 0) onWait?.(error.message)
      await clock.sleep(waitMs, signal)
    }
  }
}

/** One successful answer; what may mend itself is a PassingFailure, any other refusal a SetupError. */
export async function askOnce(
  server: Server,
  path: string,
  init: RequestInit & { signal: AbortSignal },
): Promise<Response> {
  let response: Response
  try {
    response = await ask(server, path, init)
  } catch (error) {
    init.signal.throwIfAborted()
    throw error instanceof SetupError ? new PassingFailure(error) : error
  }
  if (response.ok) return response
  const explained = await explainStatus(server, path, response)
  if (!isPassing(response.status)) throw explained
  const seconds = Number(response.headers.get('retry-after') ?? 0)
  throw new PassingFailure(explained, Number.isFinite(seconds) ? Math.min(seconds * 1000, 60_000) : 0)
}

/** The JSON of one successful answer; one that breaks off is a PassingFailure as well. */
export async function askOnceForJson(
  server: Server,
  path: string,
  init: RequestInit & { signal: AbortSignal },
): Promise<unknown> {
  const response = await askOnce(server, path, init)
  try {
    return await response.json()
  } catch (error) {
    init.signal.throwIfAborted()
    throw new PassingFailure(
      new SetupError(`${server.url}${path} did not answer JSON; is this an OpenAI-compatible server?`, {
        cause: error,
      }),
    )
  }
}

/** The JSON of a successful answer, waited for. */
export async function askPatiently(
  server: Server,
  path: string,
  patience: Patience,
  makeInit: () => RequestInit = () => ({}),
): Promise<unknown> {
  const { signal } = patience
  return keepTrying(patience, () => askOnceForJson(server, path, { ...makeInit(), signal }))
}
