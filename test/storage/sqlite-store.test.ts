import { describeStore } from '../conformance/store.ts'
import { Folder, TestStore } from '../helpers/sqlite.ts'

describeStore('the SQLite store', async () => {
  const folder = await Folder.make()
  const store = await TestStore.open(folder.database)
  return {
    store,
    close: async () => {
      await store.stop()
      await folder[Symbol.asyncDispose]()
    },
  }
})
