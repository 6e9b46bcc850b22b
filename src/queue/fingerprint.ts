import { createHash } from 'node:crypto'
import type { TaskSpec } from './task.ts'

/**
 * Two submissions by one idempotency key are the same when their fingerprints are. Everything that the caller says of
 * the task is part of it; the order in which the fields of an object are written is not.
 */
export function fingerprint(spec: TaskSpec): string {
  const { work, band, runAtMs, deadlineMs, attemptsMax, metadata, webhook } = spec
  const said = { work, band, runAtMs, deadlineMs, attemptsMax, metadata, webhook }
  return createHash('sha256')
    .update(JSON.stringify(sortKeys(said)))
    .digest('base64url')
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys)
  if (typeof value !== 'object' || value === null) return value
  // Pairs and not an object: keys that look like numbers would be put in an order of their own, `__proto__` be lost.
  return {
    pairs: Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => [key, sortKeys(item)]),
  }
}
