import { writeSync } from 'node:fs'
import { Database, migrate } from '../../src/storage/sqlite/database.ts'
import { migrations } from '../../src/storage/sqlite/schema.ts'
import { claimed, newTask, noLimits, settled, success } from '../conformance/tasks.ts'
import { TestStore } from '../helpers/sqlite.ts'

/** What the tests of faults kill. Each line on stdout is written only after the store has acknowledged what it says. */

const [mode, path, count] = process.argv.slice(2) as [string, string, string]

// Written at once: what a stream still holds dies with the process.
const say = (line: string) => writeSync(1, `${line}\n`)

/** A step of a migration that takes its time, in several statements. */
export const slowSteps = [
  ...migrations,
  `CREATE TABLE large (n INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
   INSERT INTO large SELECT value, hex(randomblob(50)) FROM (
     WITH RECURSIVE numbers (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers WHERE value < 200000)
     SELECT value FROM numbers);
   CREATE INDEX large_text ON large (text);
   ALTER TABLE tasks ADD COLUMN extra TEXT NOT NULL DEFAULT 'x'`,
]

async function write(producers: number): Promise<void> {
  const store = await TestStore.open(path)
  say('ready')
  const produce = async () => {
    for (;;) {
      const task = newTask({ payload: Buffer.alloc(200, 'x') })
      const [outcome] = await store.tasks.submit([task], noLimits)
      if (outcome?.kind === 'created') say(`created ${task.id}`)
    }
  }
  const work = async () => {
    for (;;) {
      for (const { task } of await claimed(store, { limit: 3 })) {
        const status = await settled(store, task, success(task.id))
        if (status === 'succeeded') say(`succeeded ${task.id}`)
      }
    }
  }
  await Promise.all([
    ...Array.from({ length: producers }, produce),
    ...(producers > 1 ? [work(), work()] : []),
  ])
}

if (import.meta.main) {
  if (mode === 'write') await write(Number(count))
  if (mode === 'migrate') {
    const database = new Database(path)
    say('ready')
    migrate(database, slowSteps)
    say('migrated')
  }
}
