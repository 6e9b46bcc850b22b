import { after, describe } from 'node:test'
import { describeStore } from '../conformance/store.ts'
import { createDatabase, makeStore } from '../helpers/postgres.ts'
import { serviceSkip } from '../helpers/services.ts'

const skip = await serviceSkip('postgresql')

if (skip) describe('the PostgreSQL store', { skip }, () => {})
else {
  const database = await createDatabase()
  after(() => database.drop())

  describeStore('the PostgreSQL store', async () => {
    await database.clear()
    const store = makeStore(database.url)
    await store.start()
    return { store, close: () => store.stop() }
  })
}
