import { strict as assert } from 'node:assert'
import { execFileSync } from 'node:child_process'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { claimed, newTask, noLimits, settled, success } from '../conformance/tasks.ts'
import { Folder, TestStore } from '../helpers/sqlite.ts'

/** A disk of its own, of a few megabytes; null where none can be mounted. */
function mountSmallDisk(path: string, size: string): (() => void) | null {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path], { stdio: 'pipe' })
  } catch {
    return null
  }
  return () => void execFileSync('umount', ['-l', path])
}

describe('SQLite on a disk that is full', () => {
  it('acknowledges nothing that it could not keep, and goes on when there is room again', async (t) => {
    await using folder = await Folder.make()
    const unmount = mountSmallDisk(folder.path, '6m')
    if (unmount === null) return t.skip('no tmpfs can be mounted here (it needs root)')
    try {
      // Room that is given back later.
      const ballast = join(folder.path, 'ballast')
      await writeFile(ballast, Buffer.alloc(2_000_000))
      await using store = await TestStore.open(folder.database)
      const acknowledged: string[] = []
      let refusals = 0
      const submit = async (size: number) => {
        const task = newTask({ payload: Buffer.alloc(size, 'x') })
        try {
          await store.tasks.submit([task], noLimits)
          acknowledged.push(task.id)
        } catch (error) {
          assert.equal((error as Error).name, 'StoreUnavailable', String(error))
          refusals += 1
        }
      }
      for (let round = 0; round < 60; round += 1) {
        await Promise.all(Array.from({ length: 20 }, (_, index) => submit(index === 7 ? 50_000 : 2_000)))
      }
      assert.ok(refusals > 100, `the disk never was full: ${refusals} refusals`)
      assert.ok(acknowledged.length > 100, `nothing was ever stored: ${acknowledged.length}`)
      const readable = await store.tasks.find(acknowledged[0]!)
      assert.equal(readable?.status, 'queued', 'what is stored is not readable while the disk is full')

      await rm(ballast)
      const before = acknowledged.length
      for (let round = 0; round < 5; round += 1) await submit(500)
      assert.equal(acknowledged.length, before + 5, 'no recovery after there was room again')
      for (const { task } of await claimed(store, { limit: 5 })) await settled(store, task, success())
      assert.deepEqual(await store.maintenance.check(), [])
      await store.stop()

      await using again = await TestStore.open(folder.database)
      const found = await Promise.all(acknowledged.map((id) => again.tasks.find(id)))
      assert.equal(found.filter((row) => row === null).length, 0, 'an acknowledged task is lost')
      const { queued, succeeded } = await again.tasks.count('acme')
      assert.equal(queued + succeeded, acknowledged.length, 'a refused task is there')
      assert.deepEqual(await again.maintenance.check(), [])
    } finally {
      unmount()
    }
  })
})
