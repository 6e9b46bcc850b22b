import { strict as assert } from 'node:assert'
import { performance } from 'node:perf_hooks'
import { test } from 'node:test'
import { BatchBench, lineOf } from '../queue/batches/batch-bench.ts'

const lines = 50_000
const bytesPerLine = 2_000
const megabyte = 2 ** 20

void test(`a batch of ${lines} lines and 100 MB takes up little memory`, async (t) => {
  await using bench = await BatchBench.open()
  const files = bench.files()
  const upload = await files.begin('t')
  const filler = 'x'.repeat(bytesPerLine)
  for (let n = 0; n < lines; n += 1) {
    await upload.write(
      Buffer.from(
        `${lineOf(n, { body: { model: 'm', messages: [{ role: 'user', content: filler }], n } })}\n`,
      ),
    )
  }
  const file = await upload.finish({ filename: 'large.jsonl', purpose: 'batch', keepMs: null })
  const { batch } = await bench.batches().create('t', {
    inputFileId: file.id,
    endpoint: '/v1/chat/completions',
    completionWindow: '24h',
    windowMs: 86_400_000,
    band: 100,
    metadata: null,
    outputKeepMs: null,
  })

  const runner = bench.runner()
  const timesMs: Record<string, number> = {}
  let mostLive = 0
  let mostRssBytes = 0
  let mostHeapBytes = 0
  let longestStallMs = 0
  let lastTick = performance.now()
  const ticking = setInterval(() => {
    const nowMs = performance.now()
    longestStallMs = Math.max(longestStallMs, nowMs - lastTick - 5)
    lastTick = nowMs
    const { rss, heapUsed, arrayBuffers } = process.memoryUsage()
    mostRssBytes = Math.max(mostRssBytes, rss)
    mostHeapBytes = Math.max(mostHeapBytes, heapUsed + arrayBuffers)
  }, 5)
  globalThis.gc?.()
  const { rss: rssBefore } = process.memoryUsage()
  for (;;) {
    const { batch: before } = await bench.batches().get('t', batch.id)
    if (before.status === 'completed') break
    const startMs = performance.now()
    await runner.look()
    timesMs[before.status] = (timesMs[before.status] ?? 0) + performance.now() - startMs
    const { queued, running } = await bench.store.tasks.count('t', batch.id)
    mostLive = Math.max(mostLive, queued + running)
    while ((await bench.work(undefined, 1_000)) > 0);
    bench.clock.advance(1_000)
  }
  clearInterval(ticking)
  const { output, errors } = await bench.results('t', batch.id)
  assert.deepEqual([output.length, errors.length], [lines, 0])
  assert.ok(output.every(({ custom_id }, n) => custom_id === `line-${n}`))
  const growthMb = (mostRssBytes - rssBefore) / megabyte
  t.diagnostic(
    `input ${(file.bytes / megabyte).toFixed(0)} MB; RSS ${(rssBefore / megabyte).toFixed(0)} MB before, at most ${growthMb.toFixed(0)} MB more; ` +
      `heap and buffers at most ${(mostHeapBytes / megabyte).toFixed(0)} MB; longest stall ${longestStallMs.toFixed(0)} ms; at most ${mostLive} tasks live; ` +
      Object.entries(timesMs)
        .map(([status, ms]) => `${status} ${(ms / 1000).toFixed(1)} s`)
        .join(', '),
  )
  assert.ok(mostLive < 2_100, `${mostLive} tasks lived at once`)
  assert.ok(growthMb < 400, `the process grew by ${growthMb.toFixed(0)} MB`)
})
