import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { PieceWriter, pieceBytes, RangeReader, readPieces } from '../../../src/queue/batches/pieces.ts'
import type { FileStore } from '../../../src/queue/batches/file-store.ts'
import { BatchBench, lineOf, succeed } from './batch-bench.ts'

const info = { filename: 'a', purpose: 'batch', keepMs: null } as const

const collect = async (pieces: AsyncIterable<Buffer>): Promise<Buffer> => {
  const found: Buffer[] = []
  for await (const piece of pieces) found.push(piece)
  return Buffer.concat(found)
}

void test('bytes written in parts of any size are read again, whole and by range', async () => {
  await using bench = await BatchBench.open()
  const { blobs } = bench.store
  const content = Buffer.from(
    Uint8Array.from({ length: 5 * pieceBytes + 1234 }, (_, n) => (n * 7 + (n >> 11)) % 256),
  )
  const sizes = [1, 70_000, pieceBytes - 1, pieceBytes, pieceBytes + 1, 3 * pieceBytes, 17]
  const writer = new PieceWriter(blobs, 'a')
  for (let at = 0, n = 0; at < content.length; n += 1) {
    const part = content.subarray(at, at + (sizes[n % sizes.length] as number))
    await writer.write(part)
    at += part.length
  }
  await writer.end()
  assert.equal(writer.bytes, content.length)
  assert.ok((await collect(readPieces(blobs, 'a'))).equals(content))
  const reader = new RangeReader(blobs, 'a')
  const ranges = [
    [0, 1],
    [0, content.length],
    [pieceBytes - 1, 2],
    [pieceBytes, pieceBytes],
    [4 * pieceBytes - 5, 900_000 - 3 * pieceBytes],
    [10, 10],
    [content.length - 1, 1],
    [100, 0],
  ] as const
  for (const [at, length] of ranges) {
    assert.ok((await reader.read(at, length))?.equals(content.subarray(at, at + length)), `${at} + ${length}`)
  }
  assert.equal(await reader.read(content.length - 1, 2), null)
  assert.equal(await new RangeReader(blobs, 'none').read(0, 1), null)
})

void test('what a process that died has left of an upload is swept at the next start', async () => {
  await using bench = await BatchBench.open()
  const upload = await bench.files().begin('t')
  await upload.write(Buffer.alloc(5 * pieceBytes))
  assert.equal(bench.blobIds().length, 1)
  await using next = started(bench.files())
  await next.files.start()
  assert.deepEqual(bench.blobIds(), [])
  assert.deepEqual(await bench.store.documents.listOpen('upload', 10), [])
  // The upload that still thinks it lives finds out, and no half file becomes visible.
  await assert.rejects(upload.finish(info), { code: 'request_timeout' })
  const { files } = await bench
    .files()
    .list({ tenant: 't', purpose: null, after: null, ascending: false, limit: 9 })
  assert.deepEqual(files, [])
})

const started = (files: FileStore) => ({ files, [Symbol.asyncDispose]: () => files.stop() })

void test('a tenant that uploads slowly leaves room for others', async () => {
  await using bench = await BatchBench.open()
  await using own = started(bench.files())
  const begin = (tenant: string) => own.files.begin(tenant)
  const slow = await Promise.all(Array.from({ length: 32 }, () => begin('slow')))
  await assert.rejects(begin('slow'), { code: 'rate_limited', message: /^32 files of this tenant/ })
  const other = await begin('other')
  assert.equal((await other.finish(info)).bytes, 0)
  await Promise.all(Array.from({ length: 32 }, () => begin('second')))
  await assert.rejects(begin('other'), { code: 'rate_limited', message: /^64 files are/ })
  await slow[0]!.finish(info)
  await begin('slow')
})

void test('a process sweeps neither its own uploads nor those of others that go on', async () => {
  await using bench = await BatchBench.open()
  const [own, others] = [bench.files(), bench.files()]
  const mine = await own.begin('t')
  const theirs = await others.begin('t')
  await mine.write(Buffer.alloc(10))
  await theirs.write(Buffer.alloc(10))
  await own.sweep(0)
  await assert.rejects(theirs.finish(info))
  const goesOn = await others.begin('t')
  bench.clock.advance(200_000)
  await goesOn.write(Buffer.alloc(10))
  bench.clock.advance(200_000)
  await own.sweep(300_000)
  assert.equal((await goesOn.finish(info)).bytes, 10)
  assert.equal((await mine.finish(info)).bytes, 10)
})

void test('a file that was finished outlives the sweep of its upload', async () => {
  await using bench = await BatchBench.open()
  const file = await bench.upload('t', 'abc')
  const { id, tenant } = file
  const data = JSON.stringify({ touchedAtMs: 0 })
  await bench.store.documents.insert({
    kind: 'upload',
    id,
    tenant,
    createdAtMs: 0,
    expiresAtMs: null,
    open: true,
    data,
  })
  await bench.files().sweep(0)
  assert.equal((await collect(bench.files().read(file))).toString(), 'abc')
})

void test('a discarded upload is gone even when it had become visible', async () => {
  await using bench = await BatchBench.open()
  const files = bench.files()
  const upload = await files.begin('t')
  await upload.write(Buffer.from('abc'))
  await upload.finish(info)
  await upload.discard()
  assert.deepEqual(bench.blobIds(), [])
  await assert.rejects(files.get('t', upload.id), { code: 'file_not_found' })
})

void test('the retention removes files that are past their time, and nobody sees them before it does', async () => {
  await using bench = await BatchBench.open()
  const file = await bench.upload('t', 'abc')
  bench.clock.advance(bench.settings.keepFilesMs)
  await assert.rejects(bench.files().get('t', file.id), { code: 'file_not_found' })
  await assert.rejects(bench.files().remove('t', file.id), { code: 'file_not_found' })
  await bench.store.maintenance.prune({ finishedBeforeMs: 0, finishedMax: 100 }, bench.clock.wallMs(), 100)
  assert.deepEqual(bench.blobIds(), [])
})

void test('a tenant with a time of its own keeps its files for that, and none that asks for longer', async () => {
  await using bench = await BatchBench.open()
  bench.keepMs.set('brief', 60_000).set('thrifty', 9 * bench.settings.keepFilesMs)
  const nowMs = bench.clock.wallMs()
  const keptMs = async (tenant: string) => (await bench.upload(tenant, 'abc')).expiresAtMs - nowMs
  assert.equal(await keptMs('brief'), 60_000)
  assert.equal(await keptMs('thrifty'), 9 * bench.settings.keepFilesMs)
  assert.equal(await keptMs('t'), bench.settings.keepFilesMs)
  assert.equal(bench.files().expiryOf('brief', nowMs, 3_600_000), nowMs + 60_000)
  assert.equal(bench.files().expiryOf('thrifty', nowMs, 3_600_000), nowMs + 3_600_000)
})

void test('the results of a batch, and the batch, are kept as long as its tenant says', async () => {
  await using bench = await BatchBench.open()
  bench.keepMs.set('brief', 60_000)
  const id = await bench.create('brief', [lineOf(0), lineOf(1)].join('\n'))
  await bench.drive('brief', id, bench.runner())
  const { batch } = await bench.batches().get('brief', id)
  const results = await bench.files().get('brief', batch.results!.output.id)
  assert.equal(results.expiresAtMs - results.createdAtMs, 60_000)
  bench.clock.advance(60_000)
  await bench.store.maintenance.prune({ finishedBeforeMs: 0, finishedMax: 100 }, bench.clock.wallMs(), 100)
  assert.deepEqual(bench.blobIds(), [])
  await assert.rejects(bench.batches().get('brief', id), { code: 'batch_not_found' })
})

void test('the retention keeps the tasks of a batch until its results are written', async () => {
  await using bench = await BatchBench.open()
  const id = await bench.create('t', Array.from({ length: 10 }, (_, n) => lineOf(n)).join('\n'))
  const runner = bench.runner({ liveTasksMax: 4, piece: { lines: 2, bytes: 100_000 } })
  await runner.look()
  await bench.work(succeed)
  const prune = () =>
    bench.store.maintenance.prune(
      { finishedBeforeMs: bench.clock.wallMs() + 1e9, finishedMax: 0 },
      bench.clock.wallMs(),
      100,
    )
  await prune()
  await bench.drive('t', id, runner)
  const { output } = await bench.results('t', id)
  assert.equal(output.length, 10)
  await prune()
  const { counts } = await bench.batches().get('t', id)
  assert.deepEqual(counts, { total: 10, completed: 10, failed: 0 }, 'the counts outlive the tasks')
  assert.equal((await bench.store.tasks.count('t', id)).succeeded, 0)
})
