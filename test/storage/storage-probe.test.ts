import { strict as assert } from 'node:assert'
import { setImmediate as turn } from 'node:timers/promises'
import { test } from 'node:test'
import { StorageProbe } from '../../src/storage/storage-probe.ts'
import { StoreUnavailable, type Store } from '../../src/storage/store.ts'
import { ManualClock } from '../helpers/clock.ts'

test('the probe tells of a storage that refuses writes or does not answer, and of its recovery', async () => {
  const clock = new ManualClock()
  let put: () => Promise<void> = () => Promise.resolve()
  const probe = new StorageProbe({ store: { cache: { put: () => put() } } as unknown as Store, clock })
  await probe.start()
  const look = async () => {
    clock.advance(5_000)
    await turn()
    return probe.problem
  }
  assert.equal(await look(), null)
  put = () => Promise.reject(new StoreUnavailable('disk full'))
  assert.equal(await look(), 'the storage takes no writes: disk full')
  const hanging = Promise.withResolvers<void>()
  put = () => hanging.promise
  await look()
  assert.equal(await look(), 'the storage has not answered for 5 s')
  hanging.resolve()
  put = () => Promise.resolve()
  await turn()
  assert.equal(await look(), null)
  await probe.stop()
  await probe.stop()
  assert.equal(clock.pending, 0)
})
