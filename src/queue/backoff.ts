export type BackoffRules = {
  /** Before the second attempt, at most. */
  delayMs: number
  /** Before any attempt, at most. */
  delayMaxMs: number
}

/**
 * How long a task waits after its `attempt`-th attempt has failed: anything between nothing and a limit that doubles
 * with each attempt. The whole range and not a part of it: tasks that failed together must not come back together.
 * What the model instance asks for counts as well; the larger wins.
 * Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function backoffMs(
  failure: { attempt: number; retryAfterMs: number | null },
  rules: BackoffRules,
  random: () => number,
): number {
  const limitMs = Math.min(rules.delayMaxMs, rules.delayMs * 2 ** (failure.attempt - 1))
  return Math.ceil(Math.max(random() * limitMs, failure.retryAfterMs ?? 0))
}
