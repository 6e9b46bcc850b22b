import { strict as assert } from 'node:assert'
import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it, mock } from 'node:test'
import { DatabaseSync } from 'node:sqlite'
import { Command } from 'commander'
import { addStorageCommand } from '../../src/cli/storage.ts'
import { startMs, submitted, claimed, settled, success } from '../conformance/tasks.ts'
import { Folder, TestStore } from '../helpers/sqlite.ts'

/** Runs `autoglm storage …` in this process; gives its exit code and what it printed. */
async function run(...args: string[]): Promise<{ code: number; output: string }> {
  const program = new Command('autoglm').exitOverride()
  let code = -1
  addStorageCommand(program, (result) => (code = result))
  let output = ''
  const write = mock.method(process.stdout, 'write', (chunk: string | Uint8Array) => {
    output += String(chunk)
    return true
  })
  try {
    await program.parseAsync(['storage', ...args], { from: 'user' })
  } finally {
    write.mock.restore()
  }
  return { code, output }
}

describe('autoglm storage', { concurrency: false }, () => {
  it('says where nothing is stored yet', async () => {
    await using folder = await Folder.make()
    await assert.rejects(run('check', '--data-dir', folder.path), {
      name: 'SetupError',
      message: /is not there/,
    })
    const target = join(folder.path, 'copy.db')
    await assert.rejects(run('backup', target, '--data-dir', folder.path), { name: 'SetupError' })
  })

  it('checks and backs up beside a running server and without one', async () => {
    await using folder = await Folder.make()
    await using store = await TestStore.open(folder.database)
    await submitted(store, {}, {})
    const beside = await run('check', '--data-dir', folder.path)
    assert.deepEqual(beside, { code: 0, output: 'nothing is wrong\n' })
    assert.equal((await run('backup', join(folder.path, 'one.db'), '--data-dir', folder.path)).code, 0)
    await store.stop()
    assert.equal((await run('check', '--data-dir', folder.path)).code, 0)
    assert.equal((await run('backup', join(folder.path, 'two.db'), '--data-dir', folder.path)).code, 0)
    for (const name of ['one.db', 'two.db']) {
      await using other = await Folder.make()
      await copyFile(join(folder.path, name), other.database)
      await using restored = await TestStore.open(other.database)
      assert.equal((await restored.tasks.count('acme')).queued, 2)
    }
  })

  it('ends with 1 where something is damaged', async () => {
    await using folder = await Folder.make()
    const store = await TestStore.open(folder.database)
    await submitted(store, {})
    await store.stop()
    const handle = new DatabaseSync(folder.database)
    handle.exec('DELETE FROM payloads')
    handle.close()
    const { code, output } = await run('check', '--data-dir', folder.path)
    assert.equal(code, 1)
    assert.match(output, /lost their payload/)
  })

  it('prunes without a server, and leaves it to the server beside one', async () => {
    await using folder = await Folder.make()
    const store = await TestStore.open(folder.database)
    await submitted(store, {}, {})
    for (const { task } of await claimed(store, { nowMs: startMs }))
      await settled(store, task, success(), 1000)
    await assert.rejects(run('prune', '--data-dir', folder.path), {
      name: 'SetupError',
      message: /in use.*by itself/s,
    })
    await store.stop()
    const pruned = await run('prune', '--data-dir', folder.path)
    assert.equal(pruned.code, 0)
    assert.match(pruned.output, /^1 ended tasks/)
    await store.start()
    assert.equal((await store.tasks.count('acme')).queued, 1)
    await store.stop()
  })

  it('prunes by the times of tenants, of the configuration and of the storage', async () => {
    await using folder = await Folder.make()
    const config = join(folder.path, 'autoglm.yaml')
    await writeFile(
      config,
      `tenants:\n  brief: { keepFinishedMs: 60000 }\n  default: { keepFinishedMs: 7200000 }\n`,
    )
    const store = await TestStore.open(folder.database)
    const settings = JSON.stringify({ keepFinishedMs: 31_536_000_000 })
    await store.access.putTenant({ name: 'thrifty', settings, updatedAtMs: startMs, version: null }, 10)
    const tenants = ['brief', 'other', 'thrifty', 'brief', 'other', 'thrifty']
    const nowMs = Date.now()
    const rows = await submitted(store, ...tenants.map((tenant) => ({ tenant })))
    for (const { task } of await claimed(store, { limit: 6 })) {
      const index = rows.findIndex(({ id }) => id === task.id)
      await settled(store, task, success(), nowMs - (index < 3 ? 3_600_000 : 30 * 86_400_000))
    }
    await store.stop()
    const pruned = await run('prune', '--data-dir', folder.path, '--config', config)
    assert.match(pruned.output, /^3 ended tasks/)
    await store.start()
    const count = async (tenant: string) => (await store.tasks.count(tenant)).succeeded
    assert.deepEqual([await count('brief'), await count('other'), await count('thrifty')], [0, 1, 2])
    await store.stop()
  })
})
