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

/** A copy moves the whole cache of a sequence; under this many tokens won, decoding them is as cheap. */
const copyGainTokensMin = 16

/**
 * Chooses the free slot for a prompt: the one that holds the longest beginning of it; among equals the one unused for
 * longest, so that what others may come back for survives. Where any slot, busy or not, holds much more of the
 * prompt, its cache is copied into the free slot unused for longest. Null when no slot is free.
 */
export function chooseSlot(
  slots: readonly SlotView[],
  prompt: readonly number[],
  model: { canCut: boolean },
): SlotChoice | null {
  const keeps = slots.map((slot) => reusable(slot.held, prompt, model.canCut))
  let best = -1
  let oldest = -1
  let richest = -1
  for (const [i, slot] of slots.entries()) {
    if (richest === -1 || at(keeps, i) > at(keeps, richest)) richest = i
    if (slot.busy) continue
    if (oldest === -1 || slot.usedAtStep < (slots[oldest] as SlotView).usedAtStep) oldest = i
    const better = best === -1 || at(keeps, i) > at(keeps, best)
    const equal = best !== -1 && at(keeps, i) === at(keeps, best)
    if (better || (equal && slot.usedAtStep < (slots[best] as SlotView).usedAtStep)) best = i
  }
  if (best === -1) return null
  if (model.canCut && richest !== best && at(keeps, richest) - at(keeps, best) >= copyGainTokensMin) {
    return { slot: oldest, keep: at(keeps, richest), copyFrom: oldest === richest ? null : richest }
  }
  return { slot: best, keep: at(keeps, best), copyFrom: null }
}

/** The last token of a prompt is always decoded: its logits are what the first new token is drawn from. */
function reusable(held: readonly number[], prompt: readonly number[], canCut: boolean): number {
  const common = Math.min(commonPrefix(held, prompt), prompt.length - 1)
  return canCut || common === held.length ? common : 0
}

function at(list: readonly number[], i: number): number {
  return list[i] as number
}
