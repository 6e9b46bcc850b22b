import type { SecretRow } from '../../storage/access-store.ts'

/** Published for this long before it signs: others may keep what /.well-known/jwks.json said for half of it. */
export const publishAheadMs = 600_000
/** Clocks of servers may differ by this. */
const leewayMs = 60_000

export type TokenKeyRules = { tokenKeyMs: number; tokenTtlMs: number }

export type TokenKeyPlan = {
  /** The key that signs now; null when there is none yet. */
  signWith: SecretRow | null
  /** The number of the key to be made now; null for none. */
  make: number | null
  /** Keys up to this number sign no token that is still good; 0 for none. */
  removeUpTo: number
}

/**
 * What is to be done with the keys that sign tokens. The next one is made and published before the time of the last is
 * over, then takes over; the last one goes when the youngest token that it has signed has expired. `keys`: newest first.
 */
export function planTokenKeys(
  keys: readonly SecretRow[],
  { tokenKeyMs, tokenTtlMs }: TokenKeyRules,
  nowMs: number,
): TokenKeyPlan {
  const [newest] = keys
  if (!newest) return { signWith: null, make: 1, removeUpTo: 0 }
  // The first of all has nobody to take over from.
  const signsFromMs = (key: SecretRow) =>
    key === keys.at(-1) ? key.createdAtMs : key.createdAtMs + publishAheadMs
  const signing = keys.findIndex((key) => signsFromMs(key) <= nowMs)
  const signWith = keys[signing] ?? keys.at(-1)!
  const isDue = newest.createdAtMs + tokenKeyMs - publishAheadMs <= nowMs
  const gone = keys.findIndex((_, index) => {
    const next = keys[index - 1]
    return next !== undefined && signsFromMs(next) + tokenTtlMs + leewayMs <= nowMs
  })
  return { signWith, make: isDue ? newest.number + 1 : null, removeUpTo: keys[gone]?.number ?? 0 }
}
