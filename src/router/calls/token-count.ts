/** More than any call has. A counter must not fall, nor jump to the moon, because an instance miscounts. */
const tokensMax = 1e9

/** A number of tokens as an instance tells it; null for what is none. */
export function readTokenCount(value: unknown): number | null {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= tokensMax
    ? (value as number)
    : null
}
