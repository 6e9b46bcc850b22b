import { strict as assert } from 'node:assert'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { createInterface } from 'node:readline'
import { Database, migrate, readVersion } from '../../src/storage/sqlite/database.ts'
import { migrations } from '../../src/storage/sqlite/schema.ts'
import { submitted, text } from '../conformance/tasks.ts'
import { Folder, TestStore } from '../helpers/sqlite.ts'
import { slowSteps } from './sqlite-child.ts'

const childPath = join(import.meta.dirname, 'sqlite-child.ts')
const seed = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 1e9))

/** Runs the child until `enough` of its lines, and kills it after `graceMs` in whatever it is about. */
async function runAndKill(
  args: readonly string[],
  enough: (lines: readonly string[]) => boolean,
  graceMs = 0,
): Promise<string[]> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', childPath, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines: string[] = []
  let due = false
  const closed = once(child, 'close')
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line)
    if (due || !enough(lines)) return
    due = true
    setTimeout(() => child.kill('SIGKILL'), graceMs)
  })
  await closed
  assert.ok(due, `the child ended by itself after ${lines.slice(-3).join('; ')}`)
  return lines
}

const idsOf = (lines: readonly string[], kind: string) =>
  lines.filter((line) => line.startsWith(`${kind} `)).map((line) => line.slice(kind.length + 1))

async function listAll(store: TestStore): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (let after = ''; ;) {
    const page = await store.tasks.list({ tenant: 'acme', ascending: true, limit: 1000, after })
    for (const { id, status } of page) found.set(id, status)
    if (page.length < 1000) return found
    after = page.at(-1)!.id
  }
}

describe(`SQLite and kill -9 (TEST_SEED=${seed})`, () => {
  it('loses nothing acknowledged when it is killed in the midst of group commits, again and again', async () => {
    await using folder = await Folder.make()
    const created: string[] = []
    const succeeded: string[] = []
    for (let round = 0; round < 6; round += 1) {
      const target = 200 + ((seed >> round) % 700)
      const lines = await runAndKill(['write', folder.database, '32'], ({ length }) => length > target)
      created.push(...idsOf(lines, 'created'))
      succeeded.push(...idsOf(lines, 'succeeded'))
      await using store = await TestStore.open(folder.database)
      assert.deepEqual(await store.maintenance.check(), [])
      const found = await listAll(store)
      assert.deepEqual(created.filter((id) => !found.has(id)), []) // prettier-ignore
      assert.deepEqual(succeeded.filter((id) => found.get(id) !== 'succeeded'), []) // prettier-ignore
      // What was stored and not acknowledged is no more than was under way.
      assert.ok(found.size - created.length <= 32 * (round + 1), `${found.size} of ${created.length}`)
      const last = succeeded.at(-1)
      if (last) assert.equal(text((await store.tasks.get('acme', last))?.result), last)
    }
    assert.ok(succeeded.length > 0, 'nothing was settled: the test tests half of it')
  })

  it('frees the folder at once', async () => {
    await using folder = await Folder.make()
    let held = ''
    const writes = Promise.withResolvers<void>()
    const running = runAndKill(['write', folder.database, '1'], () => {
      writes.resolve()
      return held !== ''
    })
    await Promise.race([writes.promise, running])
    await TestStore.open(folder.database).then((store) => store.stop(), (error: Error) => (held = error.message)) // prettier-ignore
    await running
    assert.match(held, /\(process \d+\)/)
    await using store = await TestStore.open(folder.database)
    assert.deepEqual(await store.maintenance.check(), [])
  })

  it('goes on with a migration that was cut off anywhere', async () => {
    let cutOff = 0
    for (const graceMs of [0, 30, 120, 250, 400]) {
      await using folder = await Folder.make()
      const store = await TestStore.open(folder.database)
      await submitted(store, {}, {}, {})
      await store.stop()
      await runAndKill(['migrate', folder.database], () => true, graceMs)
      const database = new Database(folder.database)
      const versionAfter = readVersion(database)
      assert.ok([migrations.length, slowSteps.length].includes(versionAfter))
      if (versionAfter === migrations.length) cutOff += 1
      migrate(database, slowSteps)
      const { rows } = database.handle.prepare('SELECT count(*) AS rows FROM large').get() as { rows: number }
      assert.equal(rows, 200_000)
      assert.equal(database.handle.prepare(`SELECT * FROM tasks WHERE extra = 'x'`).all().length, 3)
      assert.deepEqual(database.handle.prepare('PRAGMA integrity_check').all().length, 1)
      database.close()
    }
    assert.ok(cutOff > 0, 'each migration was done before it was killed')
  })

  it('keeps all that lies before a torn or garbled tail of the WAL', async () => {
    await using folder = await Folder.make()
    // One producer: the order of its acknowledgements is the order of the commits.
    const lines = await runAndKill(['write', folder.database, '1'], ({ length }) => length > 150)
    const created = idsOf(lines, 'created')
    const wal = await readFile(`${folder.database}-wal`)
    const damages: ((path: string, at: number) => Promise<void>)[] = [
      (path, at) => truncate(path, at),
      (path, at) =>
        writeFile(path, Buffer.concat([wal.subarray(0, at), Buffer.alloc(wal.length - at, 0xa5)])),
      (path, at) => writeFile(path, Buffer.concat([wal.subarray(0, at), Buffer.from([wal[at]! ^ 1]), wal.subarray(at + 1)])), // prettier-ignore
      (path, at) => writeFile(path, Buffer.concat([wal, Buffer.alloc(at, 0x5a)])),
    ]
    let shortest = created.length
    for (const [kind, damage] of damages.entries()) {
      for (const share of [0.35, 0.5, 0.77, 0.93, 0.999]) {
        await using copy = await Folder.make()
        await copyFile(folder.database, copy.database)
        await copyFile(`${folder.database}-wal`, `${copy.database}-wal`)
        await damage(`${copy.database}-wal`, Math.floor(wal.length * share))
        await using store = await TestStore.open(copy.database)
        const found = await listAll(store)
        const kept = created.filter((id) => found.has(id)).length
        const what = `damage ${kind} at ${share}: ${kept} of ${created.length}`
        assert.deepEqual(created.slice(0, kept), [...found.keys()].slice(0, kept), `a hole, ${what}`)
        assert.deepEqual(await store.maintenance.check(), [], what)
        // As much of the log as is whole is as much of the tasks, give or take what its pages are shared by.
        if (kind < 3) assert.ok(kept >= created.length * (share - 0.2), what)
        else assert.equal(kept, created.length, what)
        shortest = Math.min(shortest, kept)
      }
    }
    assert.ok(shortest < created.length * 0.6, 'no damage was done: the test tests nothing')
  })
})
