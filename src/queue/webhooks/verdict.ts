/** What came of one delivery. */
export type Delivery =
  | { kind: 'answered'; status: number; retryAfterMs: number | null }
  /** No answer: not reachable, too slow, broken off. */
  | { kind: 'failed'; reason: string }
  /** Policy forbids the target. */
  | { kind: 'refused'; reason: string }

export type Verdict =
  | { kind: 'delivered' }
  | { kind: 'retry'; delayMs: number; reason: string }
  | { kind: 'given_up'; reason: string }

const firstDelayMs = 5_000
const growth = 4
const delayMsMax = 21_600_000
const retryAfterMsMax = 86_400_000

/**
 * What follows from a delivery. Any answer but 2xx is a failure that may pass, a redirect too: it would lead past the
 * judgement of the address. 410 says that nobody wants these any more. `chance` is a random number from 0 to 1.
 */
export function judge(
  delivery: Delivery,
  tries: { attempt: number; attemptsMax: number; chance: number },
): Verdict {
  if (delivery.kind === 'refused') return { kind: 'given_up', reason: delivery.reason }
  const isAnswer = delivery.kind === 'answered'
  if (isAnswer && delivery.status >= 200 && delivery.status <= 299) return { kind: 'delivered' }
  const reason = isAnswer ? `the receiver answered ${delivery.status}` : delivery.reason
  if (isAnswer && delivery.status === 410) return { kind: 'given_up', reason }
  if (tries.attempt >= tries.attemptsMax) return { kind: 'given_up', reason }
  const askedMs = Math.min((isAnswer ? delivery.retryAfterMs : null) ?? 0, retryAfterMsMax)
  return { kind: 'retry', delayMs: Math.max(askedMs, growingDelayMs(tries.attempt, tries.chance)), reason }
}

/** 5 s, 20 s, 80 s, … up to 6 hours, each by up to a fifth shorter or longer so that failures do not march in step. */
function growingDelayMs(attempt: number, chance: number): number {
  const plainMs = Math.min(firstDelayMs * growth ** (attempt - 1), delayMsMax)
  return Math.round(plainMs * (0.8 + 0.4 * chance))
}

/** `Retry-After` as seconds or as a date; null when there is none that can be read. */
export function readRetryAfter(header: string | undefined, wallMs: number): number | null {
  if (header === undefined) return null
  const text = header.trim()
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - wallMs
  return Number.isFinite(ms) ? Math.max(0, ms) : null
}
