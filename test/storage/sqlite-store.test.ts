import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.ts'
import { SqliteStore } from '../../src/storage/sqlite/sqlite-store.ts'
import pino from 'pino'
import { describeStore } from '../conformance/store.ts'

describeStore('the SQLite store', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'autoglm-store-'))
  const path = join(folder, 'autoglm.db')
  const store = new SqliteStore({ path, clock: systemClock, log: pino({ level: 'silent' }) })
  await store.start()
  return {
    store,
    close: async () => {
      await store.stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
})
