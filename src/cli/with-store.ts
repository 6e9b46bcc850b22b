import pino from 'pino'
import type { Config } from '../config/schema.ts'
import { systemClock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import { openStore } from '../storage/open-store.ts'
import type { Store } from '../storage/store.ts'

/** Commands tell what happens by their output, and nothing else. */
export const silentLog = pino({ level: 'silent' })

/** Runs `work` on the storage itself, without a server. `hint` is for those whose server has the storage. */
export async function withStore<T>(
  { dataDir, storage }: Pick<Config, 'dataDir' | 'storage'>,
  hint: string,
  work: (store: Store) => Promise<T>,
): Promise<T> {
  const store = await openStore(storage, { dataDir, clock: systemClock, log: silentLog })
  try {
    await store.start().catch((error: unknown) => {
      throw error instanceof SetupError ? new SetupError(`${error.message}\n${hint}`) : error
    })
    return await work(store)
  } finally {
    await store.stop()
  }
}
