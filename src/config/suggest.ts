/** Edits (insert, delete, replace, swap neighbours) that lead from `a` to `b`. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1]
      let cost = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, beforeLast[j - 2]! + 1)
      }
      row.push(cost)
    }
    beforeLast = last
    last = row
  }
  return last[b.length]!
}

/** `max_body` and `maxBody` are one word to the person who mistyped it. */
const fold = (word: string) => word.toLowerCase().replaceAll(/[^a-z0-9]/g, '')

/** `bodyMaxBytes` and `bodyBytesMax` -> the same text. */
const sortWords = (word: string) =>
  (word.match(/[A-Z]?[a-z0-9]+|[A-Z0-9]+/g) ?? [])
    .map((part) => part.toLowerCase())
    .sort()
    .join(' ')

/** The candidate that `word` was probably meant to be, or null. At most a third of the letters may differ. */
export function suggest(word: string, candidates: readonly string[]): string | null {
  // Longer words are no names of ours, and their distance would take long to compute.
  if (word.length > 100) return null
  const folded = fold(word)
  let best: { candidate: string; distance: number } | null = null
  for (const candidate of candidates) {
    const distance = sortWords(word) === sortWords(candidate) ? 0 : editDistance(folded, fold(candidate))
    const allowed = Math.max(1, Math.floor(Math.max(folded.length, candidate.length) / 3))
    if (distance <= allowed && (best === null || distance < best.distance)) best = { candidate, distance }
  }
  return best?.candidate ?? null
}
