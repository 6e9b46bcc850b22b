/** What one running sequence has to decode: one token while it generates, many while it reads its prompt. */
export type Pending = { slot: number; tokens: number }

/**
 * Shares one batch among the running sequences. Those that generate take one token each and never wait; what is left
 * goes to prompts, in order of arrival. `promptTokensMax` bounds how long a step lasts, and with it how long a token
 * of another stream, or an abort, can wait.
 */
export function planBatch(
  pending: readonly Pending[],
  limits: { batchTokens: number; promptTokensMax: number },
): Pending[] {
  const plan: Pending[] = []
  let room = limits.batchTokens
  for (const { slot, tokens } of pending) {
    if (tokens !== 1 || room === 0) continue
    plan.push({ slot, tokens: 1 })
    room -= 1
  }
  room = Math.min(room, limits.promptTokensMax)
  for (const { slot, tokens } of pending) {
    if (tokens <= 1 || room === 0) continue
    const taken = Math.min(tokens, room)
    plan.push({ slot, tokens: taken })
    room -= taken
  }
  // llama.cpp decodes together what neighbours in the order of their sequences, and one after another what does not.
  return plan.sort((a, b) => a.slot - b.slot)
}

/**
 * Prompt tokens of the next step, so that it lasts about `targetMs`. Grows at most twofold and never falls below
 * `floor`: one slow step on a busy machine must not starve prompts.
 */
export function adaptPromptTokens(
  current: number,
  seen: { tokens: number; durationMs: number },
  limits: { targetMs: number; floor: number; ceiling: number },
): number {
  if (seen.tokens < limits.floor || seen.durationMs <= 0) return current
  const fitting = Math.floor((seen.tokens * limits.targetMs) / seen.durationMs)
  return Math.max(limits.floor, Math.min(limits.ceiling, fitting, current * 2))
}

/**
 * llama.cpp decodes neighbouring sequences of a batch together, and multiplies a single token by other kernels than
 * several, with other roundings. A sequence that must be exact and would be decoded alone gets a companion: a token in
 * an idle sequence beside it. Where both neighbours are occupied and not in this batch, it is `left` for the next one.
 */
export function planCompanions(input: {
  /** Slots of the batch. */
  batch: readonly number[]
  isExact(slot: number): boolean
  isIdle(slot: number): boolean
  /** An instance of one sequence never has company, and needs none. */
  slots: number
}): { companions: number[]; left: number[] } {
  const together = new Set(input.batch)
  const companions: number[] = []
  const left: number[] = []
  if (input.slots === 1) return { companions, left }
  for (const slot of input.batch) {
    if (!input.isExact(slot) || together.has(slot - 1) || together.has(slot + 1)) continue
    const beside = [slot + 1, slot - 1].find((i) => i >= 0 && i < input.slots && input.isIdle(i))
    if (beside === undefined) left.push(slot)
    else {
      together.add(beside)
      companions.push(beside)
    }
  }
  return { companions, left }
}
