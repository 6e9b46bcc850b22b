import { fail, type ApiError } from '../../core/errors.ts'
import type { Outcome } from './admission-metrics.ts'

export type RefusalKind = Exclude<Outcome, 'admitted'>

/** Shorter is no pause, and longer than a minute is a guess about another hour. */
const retryAfterMs = { min: 1_000, max: 60_000 } as const

/** The error for one who is not let in. `drainMs` is the time in which those before it will have been let in. */
export function refuseEntry(
  kind: RefusalKind,
  { model, drainMs }: { model: string; drainMs: number },
): ApiError {
  const waits = { retryAfterMs: Math.min(retryAfterMs.max, Math.max(retryAfterMs.min, drainMs)) }
  const name = `\`${model.slice(0, 200)}\``
  switch (kind) {
    case 'client_gone':
      return fail('client_closed')
    case 'shutting_down':
      return fail('shutting_down')
    case 'rejected_deadline':
      return fail('deadline_unreachable', {
        message: `The instances of ${name} are busy: the answer would not have begun before your deadline. Come again later, or allow more time.`,
        ...waits,
      })
    case 'rejected_full':
      return fail('overloaded', {
        message: `The instances of ${name} are busy, and as many requests as may wait for them: come again after the time in Retry-After.`,
        ...waits,
      })
    case 'rejected_shed':
      return fail('overloaded', {
        message: `The instances of ${name} are busy, and more urgent requests have taken the place of yours in the waiting line: come again after the time in Retry-After.`,
        ...waits,
      })
    case 'expired':
      return fail('overloaded', {
        message: `The instances of ${name} are busy: your request expired while waiting for them. Come again after the time in Retry-After.`,
        ...waits,
      })
  }
}
