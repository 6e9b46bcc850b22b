import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { toFile } from 'openai'
import type OpenAI from 'openai'
import {
  badNumbers,
  downloadRows,
  endpoint,
  goodNumbers,
  line,
  thousandLines,
  uploadLines,
} from '../helpers/batch-lines.ts'
import { BatchServer } from '../helpers/batch-server.ts'

const create = async (client: OpenAI, lines: readonly string[], more: object = {}) => {
  const { id } = await uploadLines(client, lines)
  return client.batches.create({ input_file_id: id, endpoint, completion_window: '24h', ...more })
}

const isOver = (client: OpenAI, id: string) => async () =>
  ['completed', 'failed', 'expired', 'cancelled'].includes((await client.batches.retrieve(id)).status)

void test('a batch of 1,000 lines with 10 bad ones, by the openai package', async () => {
  await using server = await BatchServer.start()
  const { client } = server
  const metadata = { job: 'nightly' }
  const batch = await create(client, thousandLines, { metadata })
  assert.equal(batch.object, 'batch')
  assert.deepEqual([batch.endpoint, batch.completion_window, batch.metadata], [endpoint, '24h', metadata])
  assert.equal(batch.expires_at, batch.created_at + 86_400)
  await server.workUntil(isOver(client, batch.id))

  const done = await client.batches.retrieve(batch.id)
  assert.equal(done.status, 'completed')
  assert.deepEqual(done.request_counts, { total: 1000, completed: 990, failed: 10 })
  assert.equal(done.usage?.total_tokens, 990 * 8)
  assert.ok(done.in_progress_at && done.finalizing_at && done.completed_at)
  const output = await downloadRows(client, done.output_file_id)
  const errors = await downloadRows(client, done.error_file_id)
  assert.deepEqual(
    output.map(({ custom_id }) => custom_id),
    goodNumbers.map((n) => `line-${n}`),
  )
  assert.deepEqual(output[0]?.response && { ...output[0].response, request_id: '' }, {
    status_code: 200,
    request_id: '',
    body: { object: 'chat.completion' },
  })
  assert.deepEqual(
    errors.map(({ error }) => error?.line),
    badNumbers,
  )
  assert.ok(errors.every(({ error }) => (error?.message.length ?? 0) > 10))
  // What is wrong with the lines themselves is in the batch, too; what the queue refused is in the error file alone.
  assert.deepEqual(
    done.errors?.data?.map((error) => error.line),
    [1, 100, 200, 300, 400, 500, 800, 1000],
  )
  const files = await client.files.list({ purpose: 'batch_output' })
  assert.deepEqual(
    new Set(files.data.map(({ id }) => id)),
    new Set([done.output_file_id, done.error_file_id]),
  )
})

void test('batches are listed, newest first, and belong to their tenant', async () => {
  await using server = await BatchServer.start()
  const { client } = server
  const ids: string[] = []
  for (let n = 0; n < 5; n += 1) ids.push((await create(client, [line(1)])).id)
  const found: string[] = []
  for await (const batch of client.batches.list({ limit: 2 })) found.push(batch.id)
  assert.deepEqual(found, ids.toReversed())
  const headers = { 'x-autoglm-tenant': 'other' }
  assert.deepEqual((await client.batches.list({}, { headers })).data, [])
  const id = ids[0] as string
  await assert.rejects(client.batches.retrieve(id, { headers }), { status: 404, code: 'batch_not_found' })
  await assert.rejects(client.batches.cancel(id, { headers }), { status: 404, code: 'batch_not_found' })
  assert.equal((await fetch(`${server.url}/v1/batches?limit=101`)).status, 400)
})

void test('a batch is cancelled: what is done stays, and the rest is named', async () => {
  await using server = await BatchServer.start()
  const { client } = server
  const batch = await create(
    client,
    Array.from({ length: 50 }, (_, n) => line(n)),
  )
  await server.workUntil(async () => (await client.batches.retrieve(batch.id)).status === 'in_progress')
  const cancelling = await client.batches.cancel(batch.id)
  assert.ok(['cancelling', 'cancelled'].includes(cancelling.status))
  await server.workUntil(isOver(client, batch.id))
  const done = await client.batches.retrieve(batch.id)
  assert.equal(done.status, 'cancelled')
  const { completed = 0, failed = 0 } = done.request_counts ?? {}
  assert.equal(completed + failed, 50)
  await assert.rejects(client.batches.cancel(batch.id), { status: 409, code: 'conflict' })
})

void test('what can not be a batch is refused, or fails', async () => {
  await using server = await BatchServer.start()
  const { client } = server
  const file = await uploadLines(client, [line(1)])
  const other = await client.files.create({ file: await toFile(Buffer.from('x'), 'x'), purpose: 'user_data' })
  const make = (more: object) =>
    client.batches.create({ input_file_id: file.id, endpoint, completion_window: '24h', ...more })
  await assert.rejects(make({ input_file_id: 'file-none' }), {
    status: 404,
    code: 'file_not_found',
    param: 'input_file_id',
  })
  await assert.rejects(make({ input_file_id: other.id }), { status: 400, param: 'input_file_id' })
  await assert.rejects(make({ endpoint: '/v1/moderations' }), { status: 400, param: 'endpoint' })
  await assert.rejects(make({ completion_window: 'soon' }), { status: 400, param: 'completion_window' })
  const broken = await fetch(`${server.url}/v1/batches`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '[]',
  })
  assert.equal(broken.status, 400)
  const failed = await create(client, ['{', 'nothing'])
  await server.workUntil(isOver(client, failed.id))
  const { status, errors, output_file_id } = await client.batches.retrieve(failed.id)
  assert.deepEqual([status, output_file_id], ['failed', null])
  assert.deepEqual(
    errors?.data?.map(({ code, line }) => [code, line]),
    [
      ['no_usable_line', null],
      ['invalid_json_line', 1],
      ['invalid_json_line', 2],
    ],
  )
})

void test('the routes are in the document of the API', async () => {
  await using server = await BatchServer.start()
  const { paths } = (await (await fetch(`${server.url}/openapi.json`)).json()) as {
    paths: Record<string, object>
  }
  const found = Object.keys(paths).filter((path) => /files|batches/.test(path))
  assert.deepEqual(found.toSorted(), [
    '/v1/batches',
    '/v1/batches/{id}',
    '/v1/batches/{id}/cancel',
    '/v1/files',
    '/v1/files/{id}',
    '/v1/files/{id}/content',
  ])
})
