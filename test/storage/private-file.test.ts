import { strict as assert } from 'node:assert'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import pino from 'pino'
import { systemClock } from '../../src/core/clock.ts'
import { runAside } from '../../src/storage/sqlite/aside.ts'
import { SqliteStore } from '../../src/storage/sqlite/sqlite-store.ts'

const log = pino({ level: 'silent' })
const modeOf = async (path: string) => (await stat(path)).mode & 0o777

test('what is stored is for its owner alone: folder, database, the log beside it, a backup', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'autoglm-private-'))
  const path = join(folder, 'data', 'autoglm.db')
  const store = new SqliteStore({ path, clock: systemClock, log })
  try {
    await store.start()
    await store.blobs.append('b', [Buffer.from('x')])
    await runAside({ path, task: 'backup', target: join(folder, 'copy.db') })
    assert.equal(await modeOf(join(folder, 'data')), 0o700)
    assert.equal(await modeOf(path), 0o600)
    assert.equal(await modeOf(`${path}-wal`), 0o600)
    assert.equal(await modeOf(join(folder, 'copy.db')), 0o600)
  } finally {
    await store.stop()
    await rm(folder, { recursive: true })
  }
})

test('a data folder that is a file is refused with the way out', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'autoglm-private-'))
  try {
    await writeFile(join(folder, 'data'), '')
    const path = join(folder, 'data', 'autoglm.db')
    const store = new SqliteStore({ path, clock: systemClock, log })
    await assert.rejects(store.start(), {
      name: 'SetupError',
      message: `${join(folder, 'data')} is no folder; choose another with --data-dir.`,
    })
    await store.stop()
  } finally {
    await rm(folder, { recursive: true })
  }
})
