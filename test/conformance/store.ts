import { describe } from 'node:test'
import type { Store } from '../../src/storage/store.ts'
import { describeAccess } from './store-access.ts'
import { describeBytes } from './store-bytes.ts'
import { describeDocuments } from './store-documents.ts'
import { describeEnding } from './store-ending.ts'
import { describeFairness } from './store-fairness.ts'
import { describeProperties } from './store-properties.ts'
import { describeRetention } from './store-retention.ts'
import { describeSettling } from './store-settling.ts'
import { describeSubmitting } from './store-submitting.ts'
import { describeTelling } from './store-telling.ts'
import { describeUsage } from './store-usage.ts'

/** An empty store that has started. */
type OpenStore = () => Promise<{ store: Store; close(): Promise<void> }>

/** What every driver of the store must do; each test gets an empty store of its own. */
export function describeStore(name: string, open: OpenStore): void {
  const withStore = (run: (store: Store) => Promise<void>) => async () => {
    const opened = await open()
    try {
      await run(opened.store)
    } finally {
      await opened.close()
    }
  }
  describe(name, () => {
    describeSubmitting(withStore)
    describeSettling(withStore)
    describeEnding(withStore)
    describeTelling(withStore)
    describeFairness(withStore)
    describeRetention(withStore)
    describeDocuments(withStore)
    describeBytes(withStore)
    describeAccess(withStore)
    describeUsage(withStore)
    describeProperties(withStore)
  })
}

export type WithStore = (run: (store: Store) => Promise<void>) => () => Promise<void>
