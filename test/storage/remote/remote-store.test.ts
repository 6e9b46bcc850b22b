import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { makeRemoteStore } from '../../../src/storage/remote/remote-store.ts'
import { hostStore } from '../../../src/storage/remote/store-host.ts'
import { StoreUnavailable, type Store, type Wake } from '../../../src/storage/store.ts'
import { arrived, joinWires } from '../../helpers/wires.ts'

type Behaviour = Record<string, Record<string, (...args: never[]) => unknown>>

/** A storage of which only what a test needs is there, and the way to it. */
function open(parts: Behaviour) {
  const listeners = new Set<(wake: Wake) => void>()
  const store = {
    ...parts,
    onWake(listener: (wake: Wake) => void) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  } as unknown as Store
  const [here, there] = joinWires()
  hostStore(there, store)
  return { remote: makeRemoteStore(here), here, there, listeners, wake: (wake: Wake) => listeners.forEach((tell) => tell(wake)) } // prettier-ignore
}

test('a call crosses as it was made, whatever its part and method are called', async () => {
  const calls: unknown[] = []
  const { remote } = open({
    blobs: {
      append(id: string, pieces: Uint8Array[]) {
        calls.push([id, ...pieces.map((piece) => [...piece])])
        return Promise.resolve(7)
      },
      read: () => Promise.resolve([{ number: 7, bytes: new Uint8Array([1, 2, 3]) }]),
    },
    future: { ask: (body: object) => Promise.resolve(body) },
  })
  assert.equal(await remote.blobs.append('a', [Buffer.from('xy')]), 7)
  assert.deepEqual(calls, [['a', [120, 121]]])
  const [piece] = await remote.blobs.read('a', 0, 1)
  assert.deepEqual([...piece!.bytes], [1, 2, 3])
  const { future } = remote as unknown as { future: { ask: (body: object) => Promise<object> } }
  assert.deepEqual(await future.ask({ from: null, tags: ['x'] }), { from: null, tags: ['x'] })
})

test('it is no promise, and neither are its parts', async () => {
  const { remote } = open({})
  assert.equal(await Promise.resolve(remote).then((store) => store.name), 'storage')
  assert.equal(await Promise.resolve(remote.tasks).then((part) => part === remote.tasks), true)
})

test('a storage that takes no writes is unavailable here too; another failure names the call', async () => {
  const { remote } = open({
    cache: { put: () => Promise.reject(new StoreUnavailable('disk full')) },
    tasks: { find: () => Promise.reject(new TypeError('bad id')) },
  })
  const entry = { key: 'k', tenant: 't', value: Buffer.from('v'), storedAtMs: 1, expiresAtMs: 2 }
  await assert.rejects(
    remote.cache.put(entry),
    (error) => error instanceof StoreUnavailable && error.message === 'disk full',
  )
  await assert.rejects(
    remote.tasks.find('x'),
    (error) => !(error instanceof StoreUnavailable) && /tasks\.find: bad id/.test(String(error)),
  )
  await assert.rejects(remote.tasks.nextDueMs(), /no tasks\.nextDueMs/)
})

test('when the process with the storage dies, who waits is told that it is unavailable', async () => {
  const { remote, there, listeners } = open({ tasks: { find: () => new Promise(() => {}) } })
  const waiting = assert.rejects(remote.tasks.find('x'), StoreUnavailable)
  there.close()
  await waiting
  await assert.rejects(remote.tasks.find('y'), StoreUnavailable)
  assert.equal(listeners.size, 0, 'the storage still tells somebody who is gone')
})

test('what the storage tells is passed on to who listens, many at once', async () => {
  const { remote, here, wake } = open({})
  const heard: Wake[] = []
  const unlisten = remote.onWake((item) => heard.push(item))
  const wakes: Wake[] = [{ kind: 'outbox' }, { kind: 'access' }, { kind: 'ready', model: 'm' }]
  for (const item of wakes) wake(item)
  await new Promise((resolve) => setImmediate(resolve))
  await arrived(here)
  assert.deepEqual(heard, wakes)
  unlisten()
  wake({ kind: 'outbox' })
  await new Promise((resolve) => setImmediate(resolve))
  await arrived(here)
  assert.equal(heard.length, 3)
})
