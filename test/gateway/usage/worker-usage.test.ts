import { strict as assert } from 'node:assert'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { startApp } from '../../../src/app.ts'
import { makeConfig, post, upstream } from '../../helpers/gateway.ts'
import { createDatabase } from '../../helpers/postgres.ts'
import { eventually } from '../../helpers/server.ts'
import { serviceSkip } from '../../helpers/services.ts'
import { aTask } from '../../helpers/task-server.ts'
import { FakeUpstream } from '../../helpers/upstream.ts'

const skip = await serviceSkip('postgresql')

it('a worker counts the tasks that it runs, and the server shows them', { skip }, async () => {
  const database = await createDatabase()
  const dataDir = await mkdtemp(join(tmpdir(), 'autoglm-usage-'))
  const instance = await FakeUpstream.start()
  const shared = { dataDir, storage: { url: database.url }, upstreams: [upstream('u', instance.url)] }
  const prices = { m: { input: 100_000, output: 1_000_000 } }
  // One takes tasks and runs none, the other the other way round.
  const server = await startApp(await makeConfig({ ...shared, queue: { concurrencyMax: 0 } }), {
    version: 'test',
    env: {},
  })
  const worker = await startApp(await makeConfig({ ...shared, prices }), {
    version: 'test',
    env: {},
    role: 'worker',
  })
  try {
    for (let n = 0; n < 5; n += 1) assert.equal((await post(server.url, '/v1/tasks', aTask())).status, 202)
    const since = Math.floor(Date.now() / 1_000) - 604_800
    let sums: { requests: number; prompt_tokens: number; cost: number }[] = []
    await eventually('all are counted', async () => {
      const response = await fetch(`${server.url}/v1/usage?width=all&start=${since}`)
      sums = ((await response.json()) as { data: typeof sums }).data
      return (sums[0]?.requests ?? 0) >= 5
    })
    assert.deepEqual([sums[0]?.requests, sums[0]?.prompt_tokens, sums[0]?.cost], [5, 25, 17.5])
  } finally {
    await worker.stop({ force: true })
    await server.stop({ force: true })
    await instance.stop()
    await database.drop()
    await rm(dataDir, { recursive: true, force: true })
  }
})
