import { strict as assert } from 'node:assert'
import { connect } from 'node:net'
import { mock, test } from 'node:test'
import { toFile } from 'openai'
import { StoreUnavailable } from '../../src/storage/store.ts'
import { BatchServer } from '../helpers/batch-server.ts'
import { eventually } from '../helpers/server.ts'

const storage = { fileBytesMax: 2_000_000, filesBytesMax: 5_000_000 }

const text = (bytes: number, name = 'a.jsonl') => toFile(Buffer.alloc(bytes, 'x'), name)

async function usedBlobs(server: BatchServer): Promise<number> {
  return (await server.store.documents.listOpen('upload', 100)).length
}

void test('the openai package uploads, lists, shows, downloads and deletes files', async () => {
  await using server = await BatchServer.start({ config: { storage } })
  const { client } = server
  // Several pieces, and a last one that is not whole.
  const content = Buffer.from(Array.from({ length: 150_000 }, (_, n) => n.toString(36)).join('\n'))
  const file = await client.files.create({
    file: await toFile(content, "zeilen äöü'.jsonl"),
    purpose: 'batch',
  })
  assert.match(file.id, /^file-[0-9a-z]+$/)
  assert.deepEqual(
    [file.object, file.bytes, file.filename, file.purpose, file.status],
    ['file', content.length, "zeilen äöü'.jsonl", 'batch', 'processed'],
  )
  assert.ok((file.expires_at ?? 0) > file.created_at)
  assert.deepEqual(await client.files.retrieve(file.id), file)

  const response = await client.files.content(file.id)
  assert.equal(response.headers.get('content-length'), String(content.length))
  assert.match(response.headers.get('content-disposition') ?? '', /attachment; filename\*=UTF-8''zeilen%20/)
  assert.ok(Buffer.from(await response.arrayBuffer()).equals(content))

  assert.deepEqual(await client.files.delete(file.id), { id: file.id, object: 'file', deleted: true })
  await assert.rejects(client.files.retrieve(file.id), { status: 404, code: 'file_not_found' })
  await assert.rejects(client.files.content(file.id), { status: 404 })
  await assert.rejects(client.files.delete(file.id), { status: 404 })
  assert.deepEqual(await server.store.blobs.read(file.id, 0, 10), [])
})

void test('files are listed a page at a time, by purpose, either way round', async () => {
  await using server = await BatchServer.start({ config: { storage } })
  const { client } = server
  const ids: string[] = []
  for (let n = 0; n < 7; n += 1) {
    const purpose = n % 2 ? 'user_data' : 'batch'
    ids.push((await client.files.create({ file: await text(3), purpose })).id)
  }
  const all = async (query: object) => {
    const found: string[] = []
    for await (const file of client.files.list({ limit: 2, ...query })) found.push(file.id)
    return found
  }
  assert.deepEqual(await all({}), ids.toReversed())
  assert.deepEqual(await all({ order: 'asc' }), ids)
  assert.deepEqual(await all({ purpose: 'user_data', order: 'asc' }), [ids[1], ids[3], ids[5]])
  assert.deepEqual(await all({ purpose: 'fine-tune' }), [])
  const page = (await (await fetch(`${server.url}/v1/files?limit=3`)).json()) as Record<string, unknown>
  assert.deepEqual(
    [page['object'], page['has_more'], page['first_id'], page['last_id']],
    ['list', true, ids[6], ids[4]],
  )
  for (const query of ['limit=0', 'limit=x', 'order=up', 'after=%00', 'colour=red']) {
    assert.equal((await fetch(`${server.url}/v1/files?${query}`)).status, 400, query)
  }
})

void test('a tenant sees its own files only', async () => {
  await using server = await BatchServer.start({ config: { storage } })
  const { client } = server
  const headers = { 'x-autoglm-tenant': 'other' }
  const file = await client.files.create({ file: await text(3), purpose: 'batch' })
  await assert.rejects(client.files.retrieve(file.id, { headers }), { status: 404 })
  await assert.rejects(client.files.content(file.id, { headers }), { status: 404 })
  await assert.rejects(client.files.delete(file.id, { headers }), { status: 404 })
  assert.deepEqual((await client.files.list({}, { headers })).data, [])
  assert.equal((await client.files.retrieve(file.id)).id, file.id)
})

void test('files that are too large, or too many, are refused and leave nothing behind', async () => {
  await using server = await BatchServer.start({ config: { storage } })
  const { client } = server
  const create = async (bytes: number) => client.files.create({ file: await text(bytes), purpose: 'batch' })
  await create(2_000_000)
  await assert.rejects(create(2_000_001), { status: 413, code: 'body_too_large' })
  await create(2_000_000)
  await assert.rejects(create(1_000_001), { status: 413, code: 'files_full' })
  const last = await create(1_000_000)
  await assert.rejects(create(1), { status: 413, code: 'files_full' })
  await client.files.delete(last.id)
  await create(1)
  assert.equal(await usedBlobs(server), 0)
  assert.equal((await client.files.list()).data.length, 3)
})

void test('uploads at the same moment share the room of their tenant', async () => {
  await using server = await BatchServer.start({ config: { storage } })
  const { client } = server
  const uploads = Array.from({ length: 6 }, async () =>
    client.files.create({ file: await text(1_500_000), purpose: 'batch' }),
  )
  const ends = await Promise.allSettled(uploads)
  const kept = ends.filter(({ status }) => status === 'fulfilled').length
  assert.ok(kept >= 1 && kept <= 3, `${kept} of 1.5 MB fit into 5 MB`)
  assert.equal((await client.files.list()).data.length, kept)
  assert.equal(await usedBlobs(server), 0)
})

void test('what is not an upload is told so', async () => {
  await using server = await BatchServer.start({ config: { storage } })
  const send = async (body: string | FormData, headers: Record<string, string> = {}) => {
    const response = await fetch(`${server.url}/v1/files`, { method: 'POST', body, headers })
    const { error } = (await response.json()) as {
      error: { code: string; param: string | null; message: string }
    }
    return [response.status, error.code, error.param]
  }
  const form = (fields: Record<string, string>, fileField: string | null = 'file') => {
    const data = new FormData()
    if (fileField !== null) data.append(fileField, new Blob(['abc']), 'a.txt')
    for (const [name, value] of Object.entries(fields)) data.append(name, value)
    return data
  }
  const keep = (anchor: string, seconds: string) => ({
    'expires_after[anchor]': anchor,
    'expires_after[seconds]': seconds,
  })
  const json = { 'content-type': 'application/json' }
  assert.deepEqual(await send('{}', json), [415, 'unsupported_media_type', null])
  assert.deepEqual(await send('abc', { 'content-type': 'text/plain' }), [415, 'unsupported_media_type', null])
  assert.deepEqual(await send(form({})), [400, 'invalid_request', 'purpose'])
  assert.deepEqual(await send(form({ purpose: 'fun' })), [400, 'invalid_request', 'purpose'])
  assert.deepEqual(await send(form({ purpose: 'batch_output' })), [400, 'invalid_request', 'purpose'])
  assert.deepEqual(await send(form({ purpose: 'batch' }, null)), [400, 'invalid_request', 'file'])
  assert.deepEqual(await send(form({ purpose: 'batch' }, 'data')), [400, 'invalid_request', 'file'])
  const purpose = 'batch'
  assert.deepEqual((await send(form({ purpose, ...keep('now', '3600') })))[2], 'expires_after[anchor]')
  assert.deepEqual((await send(form({ purpose, ...keep('created_at', '60') })))[2], 'expires_after[seconds]')
  assert.equal((await send(form({ purpose, note: 'x'.repeat(2_000) })))[0], 400)
  assert.equal(await usedBlobs(server), 0)
  assert.deepEqual((await server.client.files.list()).data, [])
})

void test('a form that can not be read is explained in words that name the field and the way out', async () => {
  await using server = await BatchServer.start({ config: { storage } })
  const part = (name: string, more: string, content: string) =>
    `--x\r\ncontent-disposition: form-data; name="${name}"${more}\r\n\r\n${content}\r\n`
  const file = part('file', '; filename="a"', 'abc')
  const typed = part('note', '\r\ncontent-type: application/json', '{')
  const purpose = part('purpose', '', 'batch')
  const many = Array.from({ length: 17 }, (_, n) => part(`n${n}`, '', 'x')).join('')
  const end = '--x--\r\n'
  const refusals: [what: string, body: string, param: string, message: RegExp, type?: string][] = [
    ['a second file', purpose + file + file + end, 'file', /`file` must be one file; send each/],
    ['too many fields', many + file + end, 'body', /at most 16 fields beside the file/],
    [
      'a field of a wrong name',
      part('constructor', '', 'x') + file + end,
      'body',
      /a name that is not allowed/,
    ],
    ['a field that is no JSON', typed + file + end, 'body', /send fields as plain text/],
    ['no boundary', file + end, 'body', /is not a whole form: send/, 'multipart/form-data'],
    ['a form cut off', file, 'body', /is not a whole form: send/],
    ['a head cut off', '--x\r\nbroken', 'body', /is not a whole form: send/],
    ['nothing', '', 'file', /`file` is missing/],
  ]
  for (const [what, body, param, message, type = 'multipart/form-data; boundary=x'] of refusals) {
    const headers = { 'content-type': type }
    const response = await fetch(`${server.url}/v1/files`, { method: 'POST', body, headers })
    const { error } = (await response.json()) as { error: { code: string; param: string; message: string } }
    assert.deepEqual([response.status, error.code, error.param], [400, 'invalid_request', param], what)
    assert.match(error.message, message, what)
  }
  assert.equal(await usedBlobs(server), 0)
})

void test('the form of an upload is in /openapi.json', async () => {
  await using server = await BatchServer.start({ config: { storage } })
  type Document = { paths: Record<string, { post: { requestBody: { content: Record<string, { schema: { required: string[]; properties: object } }> } } }> } // prettier-ignore
  const { paths } = (await (await fetch(`${server.url}/openapi.json`)).json()) as Document
  const { schema } = paths['/v1/files']?.post.requestBody.content['multipart/form-data'] ?? {}
  assert.deepEqual(schema?.required, ['file', 'purpose'])
  const fields = ['file', 'purpose', 'expires_after[anchor]', 'expires_after[seconds]']
  assert.deepEqual(Object.keys(schema.properties), fields)
})

void test('a file goes when it was told to', async () => {
  await using server = await BatchServer.start({ config: { storage } })
  const expires_after = { anchor: 'created_at', seconds: 3_600 } as const
  const file = await server.client.files.create({ file: await text(3), purpose: 'batch', expires_after })
  assert.equal(file.expires_at, file.created_at + 3_600)
})

void test('an upload that breaks off leaves nothing behind, and is no fault of the server', async (t) => {
  const lines: string[] = []
  const write = mock.method(process.stderr, 'write', (line: string) => lines.push(line) > 0)
  t.after(() => write.mock.restore())
  const log = { level: 'info', format: 'pretty' }
  await using server = await BatchServer.start({ config: { storage, log } })
  const { port, hostname } = new URL(server.url)
  const socket = connect(Number(port), hostname)
  const head = '--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
  socket.write(
    `POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 1900000\r\n\r\n${head}`,
  )
  socket.write(Buffer.alloc(1_300_000, 'y'))
  await eventually('the first pieces are stored', async () => {
    const [upload] = await server.store.documents.listOpen('upload', 10)
    return upload !== undefined && (await server.store.blobs.read(upload.id, 0, 9)).length > 0
  })
  const id = (await server.store.documents.listOpen('upload', 10))[0]?.id ?? ''
  socket.destroy()
  await eventually('the upload is gone', async () => (await usedBlobs(server)) === 0)
  await eventually('it is in the log', () => lines.some((line) => line.includes('POST')))
  assert.deepEqual(await server.store.blobs.read(id, 0, 9), [])
  assert.deepEqual((await server.client.files.list()).data, [])
  assert.deepEqual(
    lines.filter((line) => line.includes('ERROR')),
    [],
  )
  const told = lines.filter((line) => line.includes('POST'))
  assert.equal(told.length, 1)
  assert.match(String(told[0]), /status=499.* error=client_closed/)
})

void test('a file that is removed while it is read ends in a broken connection, not in half a file', async () => {
  await using server = await BatchServer.start({
    config: { storage: { ...storage, fileBytesMax: 100_000_000, filesBytesMax: 100_000_000 } },
  })
  const file = await server.client.files.create({ file: await text(16_000_000), purpose: 'batch' })
  const response = await fetch(`${server.url}/v1/files/${file.id}/content`)
  const reader = response.body?.getReader()
  await reader?.read()
  await server.client.files.delete(file.id)
  await assert.rejects(async () => {
    while (!(await reader?.read())?.done);
  })
})

void test('a download that the storage breaks off is answered while it can be, and noted as no fault of the client', async (t) => {
  const lines: string[] = []
  const write = mock.method(process.stderr, 'write', (line: string) => lines.push(line) > 0)
  t.after(() => write.mock.restore())
  const log = { level: 'info', format: 'pretty' }
  await using server = await BatchServer.start({ config: { storage, log } })
  const file = await server.client.files.create({ file: await text(1_900_000), purpose: 'batch' })
  const { blobs } = server.store
  const read = blobs.read.bind(blobs)
  for (const [readsBefore, status] of [[0, 503], [1, 200]] as const) {
    let reads = 0
    const spoilt = mock.method(blobs, 'read', (...args: Parameters<typeof read>) => {
      reads += 1
      return reads > readsBefore ? Promise.reject(new StoreUnavailable('the disk is away')) : read(...args)
    })
    const response = await fetch(`${server.url}/v1/files/${file.id}/content`)
    assert.equal(response.status, status)
    if (status === 200) await assert.rejects(response.arrayBuffer())
    else assert.match(await response.text(), /storage_unavailable/)
    const isOfIt = (line: string) => line.includes('/content') && line.includes('storage_unavailable')
    await eventually('it is in the log', () => lines.filter(isOfIt).length === readsBefore + 1)
    spoilt.mock.restore()
  }
  assert.deepEqual(lines.filter((line) => line.includes('client_closed')), [])
}) // prettier-ignore

void test('bytes of an upload that could not be taken away are told of', async (t) => {
  const lines: string[] = []
  const write = mock.method(process.stderr, 'write', (line: string) => lines.push(line) > 0)
  t.after(() => write.mock.restore())
  await using server = await BatchServer.start({
    config: { storage, log: { level: 'info', format: 'pretty' } },
  })
  mock.method(server.store.blobs, 'remove', () => Promise.reject(new StoreUnavailable('the disk is away')))
  const body = new FormData()
  body.append('file', new Blob([Buffer.alloc(1_500_000, 'x')]), 'a.txt')
  assert.equal((await fetch(`${server.url}/v1/files`, { method: 'POST', body })).status, 400)
  await eventually('it is told', () => lines.some((line) => line.includes('left to the next sweep')))
})
