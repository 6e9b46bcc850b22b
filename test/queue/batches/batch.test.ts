import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { ApiError } from '../../../src/core/errors.ts'
import {
  batchTransitions,
  endOf,
  isOpen,
  moveBatch,
  nextStep,
  type Batch,
} from '../../../src/queue/batches/batch.ts'
import { parseBatchRequest } from '../../../src/queue/batches/batch-request.ts'

const batch = (more: Partial<Batch> = {}): Batch => ({
  id: 'batch_1',
  tenant: 'default',
  endpoint: '/v1/chat/completions',
  inputFileId: 'file-1',
  completionWindow: '24h',
  metadata: null,
  band: 100,
  outputKeepMs: null,
  status: 'validating',
  atMs: { validating: 0 },
  expiresAtMs: 1000,
  errors: [],
  lines: { total: 3, bad: 0, refused: 0 },
  index: { id: 'index_1', pieces: 2 },
  fed: 0,
  results: null,
  scraps: [],
  counts: null,
  usage: null,
  lease: null,
  ...more,
})

const file = { id: 'file-2', bytes: 1, lines: 1 }
const results = (unfinished = 0) => ({ unfinished, output: file, errors: file })

void test('the next step follows from the state, the tasks that live and the time', () => {
  const cases: [Partial<Batch>, number, number, string][] = [
    [{ status: 'validating' }, 0, 0, 'validate'],
    [{ status: 'in_progress' }, 0, 0, 'feed'],
    [{ status: 'in_progress' }, 9, 0, 'feed'],
    [{ status: 'in_progress' }, 10, 0, 'wait'],
    [{ status: 'in_progress' }, 11, 0, 'wait'],
    [{ status: 'in_progress', fed: 2 }, 1, 999, 'wait'],
    [{ status: 'in_progress', fed: 2 }, 0, 0, 'finalize'],
    [{ status: 'in_progress' }, 5, 1000, 'finalize'],
    [{ status: 'finalizing' }, 5, 1000, 'cancel_tasks'],
    [{ status: 'finalizing', fed: 2 }, 1, 999, 'wait'],
    [{ status: 'finalizing' }, 0, 0, 'write'],
    [{ status: 'finalizing', results: results() }, 0, 0, 'publish'],
    [{ status: 'cancelling' }, 1, 0, 'cancel_tasks'],
    [{ status: 'cancelling' }, 0, 0, 'write'],
    [{ status: 'cancelling', results: results() }, 0, 0, 'publish'],
    [{ status: 'completed' }, 0, 5000, 'none'],
    [{ status: 'failed' }, 0, 5000, 'none'],
    [{ status: 'expired' }, 0, 5000, 'none'],
    [{ status: 'cancelled' }, 3, 5000, 'none'],
  ]
  for (const [more, live, nowMs, kind] of cases) {
    assert.equal(nextStep(batch(more), live, nowMs, 10).kind, kind, JSON.stringify({ ...more, live, nowMs }))
  }
  assert.deepEqual(nextStep(batch({ status: 'in_progress' }), 7, 0, 10), { kind: 'feed', room: 3 })
})

void test('a move notes its time; one that is not in the table throws', () => {
  const moved = moveBatch(batch(), 'in_progress', 5)
  assert.deepEqual(moved.atMs, { validating: 0, in_progress: 5 })
  const statuses = Object.keys(batchTransitions) as Batch['status'][]
  for (const from of statuses) {
    for (const to of statuses) {
      const move = () => moveBatch(batch({ status: from }), to, 1)
      if ((batchTransitions[from] as readonly string[]).includes(to)) assert.equal(move().status, to)
      else assert.throws(move, /a batch went from/)
    }
  }
  assert.deepEqual(
    statuses.filter((status) => !isOpen(status)),
    ['completed', 'failed', 'expired', 'cancelled'],
  )
})

void test('how a batch ends', () => {
  assert.equal(endOf(batch({ status: 'cancelling', results: results(2) })), 'cancelled')
  assert.equal(endOf(batch({ status: 'finalizing', results: results(2) })), 'expired')
  assert.equal(endOf(batch({ status: 'finalizing', results: results() })), 'completed')
})

const request = { input_file_id: 'file-1', endpoint: '/v1/embeddings', completion_window: '24h' }

void test('a request for a batch is read', () => {
  assert.deepEqual(parseBatchRequest(request), {
    inputFileId: 'file-1',
    endpoint: '/v1/embeddings',
    completionWindow: '24h',
    windowMs: 86_400_000,
    band: 100,
    metadata: null,
    outputKeepMs: null,
  })
  assert.equal(parseBatchRequest({ ...request, completion_window: '7d' }).windowMs, 604_800_000)
  assert.equal(parseBatchRequest({ ...request, completion_window: '90m' }).windowMs, 5_400_000)
  assert.equal(parseBatchRequest({ ...request, priority: 'high' }).band, 25)
  assert.equal(parseBatchRequest({ ...request, metadata: { priority: '30' } }).band, 30)
  assert.equal(parseBatchRequest({ ...request, metadata: { priority: 'low' } }).band, 75)
  const after = { anchor: 'created_at', seconds: 3600 }
  assert.equal(parseBatchRequest({ ...request, output_expires_after: after }).outputKeepMs, 3_600_000)
})

void test('what is wrong with a request for a batch is named', () => {
  const cases: [object, string][] = [
    [{ input_file_id: undefined }, 'input_file_id'],
    [{ input_file_id: 3 }, 'input_file_id'],
    [{ endpoint: '/v1/moderations' }, 'endpoint'],
    [{ completion_window: undefined }, 'completion_window'],
    [{ completion_window: '31d' }, 'completion_window'],
    [{ completion_window: '0h' }, 'completion_window'],
    [{ completion_window: '24' }, 'completion_window'],
    [{ completion_window: 24 }, 'completion_window'],
    [{ priority: 101 }, 'priority'],
    [{ metadata: { priority: 'soon' } }, 'metadata.priority'],
    [{ metadata: { a: 1 } }, 'metadata.a'],
    [{ metadata: [] }, 'metadata'],
    [{ metadata: Object.fromEntries(Array.from({ length: 17 }, (_, n) => [String(n), ''])) }, 'metadata'],
    [{ output_expires_after: { anchor: 'now', seconds: 3600 } }, 'output_expires_after.anchor'],
    [{ output_expires_after: 5 }, 'output_expires_after.anchor'],
    [{ output_expires_after: { anchor: 'created_at', seconds: 10 } }, 'output_expires_after.seconds'],
  ]
  for (const [more, param] of cases) {
    const matches = (error: unknown) =>
      error instanceof ApiError && error.param === param && error.code === 'invalid_request'
    assert.throws(() => parseBatchRequest({ ...request, ...more }), matches, JSON.stringify(more))
  }
})
