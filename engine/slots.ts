/** What a sequence holds in the cache, for the choice where a prompt goes. */
export type SlotView = { busy: boolean; held: readonly number[]; usedAtStep: number }

export type SlotChoice = {
  slot: number
  /** Tokens at the beginning of the prompt that need not be decoded again. */
  keep: number
  /** The slot whose cache is copied first; null when the slot keeps its own. */
  copyFrom: number | null
}

/** Tokens that two lists have in common at their beginning. */
export function commonPrefix(a: readonly number[], b: readonly number[]): number {
  const end = Math.min(a.length, b.length)
  let i = 0
  while (i < end && a[i] === b[i]) i += 1
  return i
}

/** Under this many tokens saved, decoding them is as cheap as a copy, or as a place among strangers. */
const gainTokensMin = 16

/**
 * Chooses the free slot for a prompt: the one that holds the longest beginning of it, where that saves enough. Among
 * about equals a neighbour of a busy slot: llama.cpp decodes neighbours together and scattered sequences one after
 * another. Then the one unused for longest, so that what others may come back for survives. Where any slot, busy or
 * not, holds much more of the prompt, its cache is copied. Null when no slot is free.
 */
export function chooseSlot(
  slots: readonly SlotView[],
  prompt: readonly number[],
  model: { canCut: boolean },
): SlotChoice | null {
  const keeps = slots.map((slot) => reusable(slot.held, prompt, model.canCut))
  const free = [...slots.keys()].filter((i) => !(slots[i] as SlotView).busy)
  const longest = Math.max(0, ...free.map((i) => at(keeps, i)))
  const slot = pick(
    slots,
    keeps,
    free.filter((i) => at(keeps, i) > longest - gainTokensMin),
  )
  if (slot === null) return null
  const richest = keeps.indexOf(Math.max(...keeps))
  if (model.canCut && at(keeps, richest) - longest >= gainTokensMin) {
    return { slot: pick(slots, keeps, free) ?? slot, keep: at(keeps, richest), copyFrom: richest }
  }
  return { slot, keep: at(keeps, slot), copyFrom: null }
}

/** Of `candidates` the neighbour of a busy slot, then the one with the most to keep, then the one unused for longest. */
function pick(
  slots: readonly SlotView[],
  keeps: readonly number[],
  candidates: readonly number[],
): number | null {
  const isBeside = (i: number) => Number(slots[i - 1]?.busy || slots[i + 1]?.busy || false)
  const usedAt = (i: number) => (slots[i] as SlotView).usedAtStep
  const better = (a: number, b: number) =>
    isBeside(b) - isBeside(a) || at(keeps, b) - at(keeps, a) || usedAt(a) - usedAt(b) || a - b
  return [...candidates].sort(better)[0] ?? null
}

/** The last token of a prompt is always decoded: its logits are what the first new token is drawn from. */
function reusable(held: readonly number[], prompt: readonly number[], canCut: boolean): number {
  const common = Math.min(commonPrefix(held, prompt), prompt.length - 1)
  return canCut || common === held.length ? common : 0
}

function at(list: readonly number[], i: number): number {
  return list[i] as number
}
