import type { LookupFunction } from 'node:net'
import { isIPv6 } from 'node:net'
import { Client } from 'undici'
import type { Clock } from '../../core/clock.ts'
import { resolveTarget, TargetRefused, type Resolve, type Target } from './target.ts'
import type { WebhookSettings } from './settings.ts'
import { readRetryAfter, type Delivery } from './verdict.ts'

/** Of an answer nothing but the head is of use; this much of a body is read so that the receiver can end in peace. */
const answerBytesMax = 65_536
const answerHeaderBytesMax = 16_384

type Posting = { url: string; headers: Readonly<Record<string, string>>; body: Buffer }

/** Delivers one message, within the time that the settings give for all of it. Never throws. */
export async function postMessage(
  posting: Posting,
  parts: { settings: WebhookSettings; resolve: Resolve; clock: Clock },
  signal: AbortSignal,
): Promise<Delivery> {
  const { settings, resolve, clock } = parts
  const limit = new AbortController()
  const endLimit = clock.after(settings.timeoutMs, () =>
    limit.abort(new Error(`no answer within ${settings.timeoutMs} ms`)),
  )
  const whole = AbortSignal.any([signal, limit.signal])
  try {
    const target = await orAbort(resolveTarget(posting.url, settings, resolve), whole)
    return await exchange(target, posting, settings.timeoutMs, clock, whole)
  } catch (error) {
    if (error instanceof TargetRefused) return { kind: 'refused', reason: error.message }
    return { kind: 'failed', reason: describe(whole.aborted ? whole.reason : error) }
  } finally {
    endLimit()
  }
}

/** One connection for one message: what is kept open would have to be judged again. */
async function exchange(
  { url, addresses }: Target,
  posting: Posting,
  timeoutMs: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<Delivery> {
  const client = new Client(url.origin, {
    connect: { lookup: pinTo(addresses), timeout: timeoutMs },
    allowH2: false,
    // The clock of the caller keeps the time.
    headersTimeout: 0,
    bodyTimeout: 0,
    maxHeaderSize: answerHeaderBytesMax,
  })
  try {
    const answer = await client.request({
      method: 'POST',
      path: `${url.pathname}${url.search}`,
      headers: { 'content-type': 'application/json', 'user-agent': 'open-autoglm', ...posting.headers },
      body: posting.body,
      signal,
    })
    // The answer is in its status: what comes of the body can't change it.
    await answer.body.dump({ limit: answerBytesMax, signal }).catch(() => {})
    const retryAfter = answer.headers['retry-after']
    return {
      kind: 'answered',
      status: answer.statusCode,
      retryAfterMs: readRetryAfter(Array.isArray(retryAfter) ? retryAfter[0] : retryAfter, clock.wallMs()),
    }
  } finally {
    await client.destroy().catch(() => {})
  }
}

/** Answers every question for a name with the addresses that were judged. TLS still asks for the name itself. */
function pinTo(addresses: readonly string[]): LookupFunction {
  const all = addresses.map((address) => ({ address, family: isIPv6(address) ? 6 : 4 }))
  return (_host, options, done) => {
    const [first] = all
    if (options.all) done(null, all)
    else if (first) done(null, first.address, first.family)
  }
}

function orAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    void promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

/** For the log. A message of the network's names hosts, addresses and codes, never what was sent. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  const { code } = error as NodeJS.ErrnoException
  return error.message === '' ? (code ?? error.name) : error.message.slice(0, 200)
}
