import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { adaptPromptTokens, planBatch, planCompanions } from '../../engine/batch.ts'
import { chooseSlot, commonPrefix } from '../../engine/slots.ts'

const canCut = { canCut: true }
const free = (held: number[], usedAtStep = 0) => ({ busy: false, held, usedAtStep })
const busy = (held: number[]) => ({ busy: true, held, usedAtStep: 9 })
const range = (length: number) => Array.from({ length }, (_, i) => i + 1)

test('a neighbour of a busy slot is taken, unless another one saves much', () => {
  const slots = [free([]), free([5, 6], 7), busy([9]), free([1, 2], 3)]
  assert.equal(chooseSlot(slots, [8], canCut)?.slot, 3)
  const prompt = [...range(40), 99]
  assert.equal(chooseSlot([free(range(40)), free([]), busy([])], prompt, canCut)?.slot, 0)
})

test('a prompt goes where its longest beginning is', () => {
  const slots = [free([1, 2]), free([1, 2, 3, 4]), free([9])]
  assert.deepEqual(chooseSlot(slots, [1, 2, 3, 7], canCut), { slot: 1, keep: 3, copyFrom: null })
})

test('among equals the slot unused for longest is taken', () => {
  assert.deepEqual(chooseSlot([free([5], 8), free([6], 3)], [1, 2], canCut), {
    slot: 1,
    keep: 0,
    copyFrom: null,
  })
})

test('the last token of a prompt is always decoded', () => {
  assert.equal(chooseSlot([free([1, 2, 3])], [1, 2, 3], canCut)?.keep, 2)
})

test('no free slot, no choice', () => {
  assert.equal(chooseSlot([busy([])], [1], canCut), null)
})

test('a busy slot that holds much of the prompt is copied', () => {
  const prompt = [...range(40), 99]
  const slots = [free([7, 7], 2), busy(range(40)), free([8], 1)]
  assert.deepEqual(chooseSlot(slots, prompt, canCut), { slot: 2, keep: 40, copyFrom: 1 })
})

test('a cache that cannot be cut is extended or not used', () => {
  const slots = [free([1, 2, 3])]
  assert.equal(chooseSlot(slots, [1, 2, 9], { canCut: false })?.keep, 0)
  assert.equal(chooseSlot(slots, [1, 2, 3, 4], { canCut: false })?.keep, 3)
})

test('commonPrefix counts equal tokens', () => {
  assert.equal(commonPrefix([1, 2, 3], [1, 2, 4]), 2)
})

test('sequences that generate come first; prompts share what is left', () => {
  const pending = [
    { slot: 0, tokens: 300 },
    { slot: 1, tokens: 1 },
    { slot: 2, tokens: 50 },
    { slot: 3, tokens: 0 },
  ]
  assert.deepEqual(planBatch(pending, { batchTokens: 512, promptTokensMax: 320 }), [
    { slot: 0, tokens: 300 },
    { slot: 1, tokens: 1 },
    { slot: 2, tokens: 20 },
  ])
})

test('the prompt tokens of a step follow what a step costs', () => {
  const limits = { targetMs: 40, floor: 16, ceiling: 512 }
  assert.equal(adaptPromptTokens(128, { tokens: 128, durationMs: 10 }, limits), 256)
  assert.equal(adaptPromptTokens(128, { tokens: 128, durationMs: 160 }, limits), 32)
  assert.equal(adaptPromptTokens(128, { tokens: 128, durationMs: 10_000 }, limits), 16)
  assert.equal(adaptPromptTokens(128, { tokens: 4, durationMs: 100 }, limits), 128)
})

test('an exact sequence is never decoded alone, and waits where it would be', () => {
  const plan = (batch: number[], idle: number[], slots = 4) =>
    planCompanions({ batch, isExact: (slot) => slot === 1, isIdle: (slot) => idle.includes(slot), slots })
  assert.deepEqual(plan([1], [0, 2, 3]), { companions: [2], left: [] })
  assert.deepEqual(plan([1, 3], [0]), { companions: [0], left: [] })
  assert.deepEqual(plan([0, 1], [2]), { companions: [], left: [] })
  assert.deepEqual(plan([1, 3], []), { companions: [], left: [1] })
  assert.deepEqual(plan([1], [], 1), { companions: [], left: [] })
})
