import { planBatch, planCompanions, type Pending } from './batch.ts'
import type { Sequence } from './sequence.ts'

/** Parts in which the prompts of exact jobs are read. */
const exactPromptTokens = 64

export type StepPlan = {
  plan: Pending[]
  companions: Sequence[]
  /** It is a part of an exact prompt: the next one is for everybody else. */
  readsExact: boolean
}

/**
 * The next batch. Prompts of exact jobs are read alone and in parts of one size, in turn with all others: what
 * stands in the same batch, and how a prompt is cut, changes the last bits of the result.
 */
export function planStep(
  slots: readonly Sequence[],
  now: { wasExact: boolean; batchTokens: number; promptTokensMax: number },
): StepPlan {
  const { wasExact, batchTokens, promptTokensMax } = now
  const pending: Pending[] = []
  let exact: Pending | null = null
  for (const { index: slot, running } of slots) {
    if (!running) continue
    const tokens = running.pending.length
    if (!running.job.exact || running.generated > 0) pending.push({ slot, tokens })
    else exact ??= { slot, tokens: Math.min(tokens, exactPromptTokens, batchTokens) }
  }
  const alone = exact && { plan: [exact], companions: [], readsExact: true }
  if (!alone || wasExact) {
    const together = planBatch(pending, { batchTokens, promptTokensMax })
    const found = takeCompanions(slots, together)
    if (found.plan.length > 0) return { ...found, readsExact: false }
    // Those left out wait for a neighbour that reads its prompt; if there is none, to go on comes before bits.
    if (!alone) return { plan: together, companions: [], readsExact: false }
  }
  return alone
}

/** Sees to it that exact sequences are not decoded alone; leaves out of `plan` those that would be. */
function takeCompanions(
  slots: readonly Sequence[],
  plan: readonly Pending[],
): { plan: Pending[]; companions: Sequence[] } {
  const slotAt = (index: number) => slots[index] as Sequence
  const { companions, left } = planCompanions({
    batch: plan.map(({ slot }) => slot),
    isExact(index) {
      const { running } = slotAt(index)
      return running !== null && running.job.exact && running.generated > 0
    },
    isIdle: (index) => slotAt(index).running === null,
    slots: slots.length,
  })
  return { plan: plan.filter(({ slot }) => !left.includes(slot)), companions: companions.map(slotAt) }
}
