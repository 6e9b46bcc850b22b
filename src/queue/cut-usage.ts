import type { TaskUsage } from '../storage/task-store.ts'
import { estimatePromptTokens } from './order.ts'
import type { Work } from './task.ts'

/**
 * What a task has used that ended in the middle of its answer: the prompts of the steps that have begun by their
 * length, the answer by its events. Those who follow it have read so much: an end in time is no way around a budget.
 * Null where no model has said anything.
 */
export function estimateCutUsage(
  work: Work,
  { stepsDone, producedTokens }: { stepsDone: number; producedTokens: number },
): TaskUsage | null {
  if (producedTokens === 0) return null
  const begun = work.endpoint === 'sequence' ? work.steps.slice(0, stepsDone + 1) : [work]
  const promptTokens = begun.reduce((sum, call) => sum + estimatePromptTokens(call), 0)
  return { promptTokens, cachedTokens: 0, completionTokens: producedTokens }
}
