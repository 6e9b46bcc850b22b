import type { CacheStore } from '../../src/storage/store.ts'

type Entry = Parameters<CacheStore['put']>[0]

/** A cache's storage in memory that fails, or is silent, when a test says so. */
export class FakeCacheStore implements CacheStore {
  readonly entries = new Map<string, Entry>()
  reads = 0
  puts = 0
  prunes: { nowMs: number; bytesMax: number; limit: number }[] = []
  /** Run in front of every operation: throws, or waits. */
  fault: (operation: 'get' | 'put' | 'prune') => Promise<void> | void = () => {}

  async get(key: string): ReturnType<CacheStore['get']> {
    this.reads += 1
    await this.fault('get')
    return this.entries.get(key) ?? null
  }

  async put(entry: Entry): Promise<void> {
    this.puts += 1
    await this.fault('put')
    this.entries.set(entry.key, entry)
  }

  async prune(nowMs: number, bytesMax: number, limit: number): Promise<number> {
    this.prunes.push({ nowMs, bytesMax, limit })
    await this.fault('prune')
    let removed = 0
    let bytes = [...this.entries.values()].reduce((sum, { value }) => sum + value.length, 0)
    for (const entry of [...this.entries.values()].sort((a, b) => a.storedAtMs - b.storedAtMs)) {
      if (removed === limit) break
      if (entry.expiresAtMs > nowMs && bytes <= bytesMax) continue
      this.entries.delete(entry.key)
      bytes -= entry.value.length
      removed += 1
    }
    return removed
  }
}
