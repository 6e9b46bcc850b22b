import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import type { Job, TokenLogprobs } from '../../engine/job.ts'
import type { Native } from '../../engine/native.ts'
import { Scheduler } from '../../engine/scheduler.ts'
import { systemClock } from '../../src/core/clock.ts'
import { ApiError } from '../../src/core/errors.ts'

const endToken = 0
const poison = 666

/** A model whose next token is the last one plus one; decoding a batch with the poison token fails. */
function createFakeNative() {
  const caches = new Map<number, number[]>()
  const log = { batches: [] as number[], copies: 0, decoded: 0, onCopy: () => {} }
  let batch: { sequence: number; tokens: number[] }[] = []
  let handles: number[] = []
  const native: Native = {
    initBatch() {
      batch = []
      handles = []
    },
    addToBatch(sequence, position, tokens, indexes) {
      assert.equal(caches.get(sequence)?.length ?? 0, position, 'a position without its predecessors')
      batch.push({ sequence, tokens: [...tokens] })
      return [...indexes].map((i) => handles.push(tokens[i] as number) - 1)
    },
    async decodeBatch() {
      log.batches.push(batch.length)
      await new Promise((resolve) => setImmediate(resolve))
      if (batch.some(({ tokens }) => tokens.includes(poison))) throw new Error('Eval has failed')
      for (const { sequence, tokens } of batch) {
        caches.set(sequence, [...(caches.get(sequence) ?? []), ...tokens])
        log.decoded += tokens.length
      }
    },
    sampleToken: (handle) => Promise.resolve((handles[handle] as number) + 1),
    readLogits: (_handle, _probe, { tokens }) =>
      Promise.resolve({ pairs: new Map(tokens.map((token) => [token, 0])), expSum: 2 }),
    createSampler: () => ({ dispose() {} }),
    cutSequence(sequence, position) {
      caches.set(sequence, (caches.get(sequence) ?? []).slice(0, position))
      return true
    },
    clearSequence: (sequence) => void caches.delete(sequence),
    copySequence(target, source) {
      log.copies += 1
      log.onCopy()
      caches.set(target, [...(caches.get(source) ?? [])])
      return Promise.resolve()
    },
  }
  return { native, log }
}

function createScheduler(limits: { slots: number; waitingMax: number }) {
  const fake = createFakeNative()
  const scheduler = new Scheduler({
    native: fake.native,
    clock: systemClock,
    ...limits,
    contextTokens: 1000,
    batchTokens: 64,
    canCut: true,
    isEnd: (token) => token === endToken,
    endTokens: [endToken],
    openGrammar: () => ({}),
    observe: { onStep() {}, onPrompt() {} },
  })
  return { scheduler, log: fake.log }
}

type Outcome = {
  tokens: number[]
  end: string | null
  error: unknown
  cached: number
  prompt: TokenLogprobs[]
}

function makeJob(prompt: number[], options: Partial<Job> & { onToken?: (tokens: number[]) => boolean } = {}) {
  const outcome: Outcome = { tokens: [], end: null, error: null, cached: -1, prompt: [] }
  let settle = () => {}
  const done = new Promise<void>((resolve) => (settle = resolve))
  const job: Job = {
    prompt,
    tokensMax: 5,
    sampling: { temperature: 0, seed: 1 },
    grammar: null,
    topLogprobs: null,
    promptLogprobs: false,
    ignoreEnd: false,
    exact: false,
    after: null,
    ...options,
    sink: {
      onStart: (cached) => (outcome.cached = cached),
      onPromptLogprobs: (part) => outcome.prompt.push(...part),
      onToken(token) {
        outcome.tokens.push(token)
        return options.onToken?.(outcome.tokens) ?? true
      },
      onFlush() {},
      onEnd(reason) {
        outcome.end = reason
        settle()
      },
      onError(error) {
        outcome.error = error
        settle()
      },
    },
  }
  return { job, outcome, done }
}

const never = new AbortController().signal

test('sequences advance together, and a new one joins between two batches', async () => {
  const { scheduler, log } = createScheduler({ slots: 4, waitingMax: 4 })
  const jobs = [10, 20, 30].map((first) => makeJob([first], { tokensMax: 4 }))
  scheduler.submit(
    jobs.map(({ job }) => job),
    never,
  )
  await Promise.all(jobs.map(({ done }) => done))
  assert.deepEqual(jobs[1]?.outcome.tokens, [21, 22, 23, 24])
  assert.deepEqual(log.batches, [3, 3, 3, 3])
  assert.equal(jobs[0]?.outcome.end, 'length')
})

test('a waiting line that is full refuses all of a request or none', async () => {
  const { scheduler } = createScheduler({ slots: 1, waitingMax: 1 })
  const first = makeJob([1])
  const second = makeJob([2])
  scheduler.submit([first.job], never)
  scheduler.submit([second.job], never)
  const refused = makeJob([3])
  assert.throws(
    () => scheduler.submit([refused.job], never),
    (error) => error instanceof ApiError && error.code === 'engine_overloaded' && error.retryAfterMs === 1000,
  )
  await Promise.all([first.done, second.done])
  assert.equal(refused.outcome.cached, -1)
})

test('an aborted sequence leaves before the next batch, an aborted waiting one at once', async () => {
  const { scheduler } = createScheduler({ slots: 1, waitingMax: 2 })
  const leaving = new AbortController()
  const runs = makeJob([1], {
    tokensMax: 900,
    onToken(tokens) {
      if (tokens.length === 3) leaving.abort()
      return true
    },
  })
  const waits = makeJob([2])
  const stays = makeJob([3])
  scheduler.submit([runs.job, waits.job], leaving.signal)
  scheduler.submit([stays.job], never)
  await stays.done
  assert.deepEqual(runs.outcome.tokens, [2, 3, 4])
  assert.deepEqual(waits.outcome.tokens, [])
  assert.deepEqual(scheduler.counts, { idle: 1, processing: 0, waiting: 0 })
})

test('one that is aborted while its prompt is copied never runs', async () => {
  const { scheduler, log } = createScheduler({ slots: 2, waitingMax: 2 })
  const prompt = Array.from({ length: 100 }, (_, i) => i + 1)
  const first = makeJob(prompt, { tokensMax: 9 })
  const leaving = new AbortController()
  const second = makeJob(prompt, { tokensMax: 800, after: first.job })
  log.onCopy = () => leaving.abort()
  scheduler.submit([first.job], never)
  scheduler.submit([second.job], leaving.signal)
  await first.done
  await scheduler.whenIdle()
  assert.equal(log.copies, 1)
  assert.deepEqual(second.outcome.tokens, [])
})

test('a fault in writing ends that reply alone', async () => {
  const { scheduler } = createScheduler({ slots: 2, waitingMax: 0 })
  const bad = makeJob([10], { tokensMax: 800 })
  bad.job.sink.onFlush = () => {
    throw new Error('cannot write')
  }
  const good = makeJob([20])
  scheduler.submit([bad.job, good.job], never)
  await Promise.all([bad.done, good.done])
  await scheduler.whenIdle()
  assert.match(String(bad.outcome.error), /cannot write/)
  assert.deepEqual(good.outcome.tokens, [21, 22, 23, 24, 25])
  assert.ok(bad.outcome.tokens.length < 5)
})

test('a batch that fails takes only the sequence at fault with it', async () => {
  const { scheduler } = createScheduler({ slots: 3, waitingMax: 0 })
  const good = makeJob([10, 11])
  const bad = makeJob([5, poison])
  const other = makeJob([30])
  scheduler.submit([good.job, bad.job, other.job], never)
  await Promise.all([good.done, bad.done, other.done])
  assert.match(String(bad.outcome.error), /Eval has failed/)
  assert.deepEqual(good.outcome.tokens, [12, 13, 14, 15, 16])
  assert.equal(other.outcome.end, 'length')
})

test('choices of one prompt wait until it is read, and find it in the cache', async () => {
  const { scheduler, log } = createScheduler({ slots: 3, waitingMax: 3 })
  const prompt = Array.from({ length: 100 }, (_, i) => i + 1)
  const first = makeJob(prompt, { tokensMax: 9 })
  const others = [1, 2].map(() => makeJob(prompt, { tokensMax: 9, after: first.job }))
  scheduler.submit([first.job, ...others.map(({ job }) => job)], never)
  await Promise.all([first.done, ...others.map(({ done }) => done)])
  assert.deepEqual(
    others.map(({ outcome }) => outcome.cached),
    [99, 99],
  )
  assert.equal(log.copies, 2)
})

test('log probabilities of a prompt come in order, however it is cut into batches', async () => {
  const { scheduler } = createScheduler({ slots: 1, waitingMax: 0 })
  const prompt = Array.from({ length: 150 }, (_, i) => i + 1)
  const { job, outcome, done } = makeJob(prompt, { promptLogprobs: true, topLogprobs: 1, tokensMax: 0 })
  scheduler.submit([job], never)
  await done
  assert.deepEqual(
    outcome.prompt.map(({ token }) => token),
    prompt.slice(1),
  )
})

test('an exact prompt is read alone, in equal parts, and never decoded alone after that', async () => {
  const { scheduler, log } = createScheduler({ slots: 3, waitingMax: 0 })
  const prompt = Array.from({ length: 100 }, (_, i) => i + 1)
  const first = makeJob(prompt, { tokensMax: 3 })
  scheduler.submit([first.job], never)
  await first.done
  const before = log.decoded
  const second = makeJob(prompt, { tokensMax: 3, exact: true })
  scheduler.submit([second.job], never)
  await second.done
  assert.equal(second.outcome.cached, 0)
  assert.deepEqual(second.outcome.tokens, first.outcome.tokens)
  // 100 tokens in two parts, then two batches with a companion each.
  assert.deepEqual(log.batches.slice(-4), [1, 1, 2, 2])
  assert.equal(log.decoded - before, 104)
  const third = makeJob(prompt, { tokensMax: 1 })
  scheduler.submit([third.job], never)
  await third.done
  assert.equal(third.outcome.cached, 99, 'the companion left the cache as it was')
})

test('exclusive work runs between two batches', async () => {
  const { scheduler } = createScheduler({ slots: 1, waitingMax: 0 })
  const { job, done } = makeJob([1], { tokensMax: 50 })
  scheduler.submit([job], never)
  assert.equal(await scheduler.between(() => Promise.resolve(7)), 7)
  await done
  await assert.rejects(
    scheduler.between(() => Promise.reject(new Error('no'))),
    /no/,
  )
  await assert.rejects(
    scheduler.between(() => {
      throw new Error('at once')
    }),
    /at once/,
  )
  await scheduler.whenIdle()
})
