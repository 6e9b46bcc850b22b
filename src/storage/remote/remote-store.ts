import { SetupError } from '../../core/errors.ts'
import { WireError, type Wire } from '../../core/wire.ts'
import { StoreUnavailable, type Store, type Wake } from '../store.ts'

/** One call of the port, as it crosses. */
export type StoreCall = { part: string; method: string; args: readonly unknown[] }

/** Bytes on their way to the process that has the storage; more are refused. */
const waitingBytesMax = 256 * 1024 * 1024

/**
 * The port of a storage that another process of this program has. It knows the port's shape and none of its methods:
 * all of them are asynchronous and take and give plain data, so each is sent as it was called.
 */
export function makeRemoteStore(wire: Wire): Store {
  const listeners = new Set<(wake: Wake) => void>()
  wire.on('store-wakes', (wakes: Wake[]) => {
    for (const wake of wakes) for (const listener of listeners) listener(wake)
  })
  const own = {
    name: 'storage',
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
    onWake(listener: (wake: Wake) => void) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  }
  return makeMembers(own, (part) =>
    makeMembers(
      {},
      (method) =>
        (...args: unknown[]) =>
          askStore(wire, { part, method, args }),
    ),
  ) as Store
}

async function askStore(wire: Wire, call: StoreCall): Promise<unknown> {
  if (wire.waitingBytes > waitingBytesMax) {
    throw new StoreUnavailable('Too many bytes wait for the storage already.')
  }
  try {
    return await wire.ask('store', call)
  } catch (error) {
    throw translate(error, call)
  }
}

function translate(error: unknown, { part, method }: StoreCall): Error {
  if (error instanceof SetupError) return error
  if (!(error instanceof WireError)) return error as Error
  const isAway = error.kind === 'StoreUnavailable' || error.kind.startsWith('Wire')
  return isAway
    ? new StoreUnavailable(error.message, { cause: error })
    : new Error(`${part}.${method}: ${error.message}`, { cause: error })
}

/** An object whose other members are made when they are asked for, once each. It is no promise. */
function makeMembers(own: Record<string, unknown>, make: (name: string) => unknown): unknown {
  const members = new Map<string, unknown>(Object.entries(own))
  return new Proxy(own, {
    get(_target, name) {
      if (typeof name === 'symbol' || name === 'then') return undefined
      let member = members.get(name)
      if (member === undefined) members.set(name, (member = make(name)))
      return member
    },
  })
}
