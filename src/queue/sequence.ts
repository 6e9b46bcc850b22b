import { fail } from '../core/errors.ts'
import type { TaskUsage } from '../storage/task-store.ts'
import { readUsage } from './read-usage.ts'
import { resolveReferences } from './references.ts'
import type { Executor, Job, JobContext, JobResult } from './runner.ts'
import type { StepWork, TaskEndpoint } from './task.ts'

/** What a step's body may grow to by the results that are put into it. */
const resolvedCharsMax = 16 * 1024 * 1024
const stepsBytesMax = 64 * 1024 * 1024

type Parts = {
  steps: readonly StepWork[]
  context: JobContext
  executorOf: (endpoint: TaskEndpoint) => Executor
}

/**
 * Runs the steps of a sequence one after another. The result of each is saved before the next begins; a step that an
 * earlier attempt has saved is not run again. The result lists those of all steps, in order.
 */
export async function runSequence(job: Job, parts: Parts): Promise<JobResult> {
  const { steps, context } = parts
  const saved = new Map(job.steps.map(({ step, result }) => [step, result]))
  const results = new Map<string, unknown>()
  const texts: string[] = []
  let usage: TaskUsage | null = null
  let instance: string | null = null
  let tokensBefore = 0
  let bytes = 0
  for (const [index, step] of steps.entries()) {
    let result = saved.get(index)
    if (result === undefined) {
      if (context.signal.aborted) throw fail('client_closed')
      const before = tokensBefore
      const answer = await runStep(job, step, results, {
        ...parts,
        context: { ...context, noteTokens: (tokens) => context.noteTokens(before + tokens) },
      })
      result = answer.result
      instance = answer.instance
      await context.saveStep(index, result)
    }
    bytes += result.length
    if (bytes > stepsBytesMax) {
      throw fail('body_too_large', {
        message: `The results of the steps are larger than ${stepsBytesMax} bytes.`,
      })
    }
    const text = Buffer.from(result.buffer, result.byteOffset, result.byteLength).toString('utf8')
    const value = JSON.parse(text) as unknown
    // From the results, so that the steps of earlier attempts are in it.
    usage = addUsage(usage, readUsage(value))
    tokensBefore = usage?.completionTokens ?? 0
    results.set(step.name, value)
    texts.push(
      `{"name":${JSON.stringify(step.name)},"endpoint":${JSON.stringify(step.endpoint)},"result":${text}}`,
    )
  }
  return { result: Buffer.from(`{"object":"sequence","steps":[${texts.join(',')}]}`), usage, instance }
}

async function runStep(
  job: Job,
  step: StepWork,
  results: ReadonlyMap<string, unknown>,
  { context, executorOf }: Parts,
): Promise<JobResult> {
  try {
    const body = resolveReferences(step.body, results, { charsMax: resolvedCharsMax })
    return await executorOf(step.endpoint)(job, { endpoint: step.endpoint, body }, context)
  } catch (thrown) {
    // Which of several steps has failed is the first thing that anybody wants to know.
    if (thrown instanceof Error) thrown.message = `Step ${step.name}: ${thrown.message}`
    throw thrown
  }
}

const addUsage = (sum: TaskUsage | null, more: TaskUsage | null): TaskUsage | null =>
  sum && more
    ? {
        promptTokens: sum.promptTokens + more.promptTokens,
        completionTokens: sum.completionTokens + more.completionTokens,
        cachedTokens: sum.cachedTokens + more.cachedTokens,
      }
    : (sum ?? more)
