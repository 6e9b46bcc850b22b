import { fail } from '../core/errors.ts'
import { StoreUnavailable } from '../storage/store.ts'

/** How long a caller is asked to wait while the storage is away. */
const retryAfterMs = 2_000

/** What the storage says when it is away, as callers know it. */
export async function askStore<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (thrown) {
    if (!(thrown instanceof StoreUnavailable)) throw thrown
    throw fail('storage_unavailable', { retryAfterMs, cause: thrown })
  }
}
