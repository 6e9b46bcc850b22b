import type { Wire } from '../../core/wire.ts'
import type { Store, Wake } from '../store.ts'
import type { StoreCall } from './remote-store.ts'

type Method = (this: unknown, ...args: unknown[]) => Promise<unknown>

/** Hints, all of them: somebody who reads slowly polls instead. */
const wakesMax = 10_000

/** Answers the calls of a process that has no storage of its own, and passes on what the storage tells. Until `wire` closes. */
export function hostStore(wire: Wire, store: Store): void {
  const parts = store as unknown as Record<string, Record<string, Method | undefined> | undefined>
  wire.on('store', ({ part, method, args }: StoreCall) => {
    const owner = parts[part]
    const run = owner?.[method]
    if (!run) throw new Error(`the storage has no ${part}.${method}`)
    return run.apply(owner, [...args])
  })
  let waiting: Wake[] = []
  const flush = () => {
    const wakes = waiting
    waiting = []
    if (!wire.isCongested) wire.tell('store-wakes', wakes)
  }
  const unlisten = store.onWake((wake) => {
    if (waiting.length === 0) setImmediate(flush)
    if (waiting.length < wakesMax) waiting.push(wake)
  })
  void wire.closed.then(unlisten)
}
