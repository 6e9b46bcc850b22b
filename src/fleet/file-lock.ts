import { link, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import type { Clock } from '../core/clock.ts'
import { makeId } from '../core/ids.ts'

/** A lock between processes, as a file that names its holder. The holder touches it; untouched for long, it is dead. */

const touchEveryMs = 10_000
const untouchedMsMax = 60_000
const pollEveryMs = 500

type Holder = { pid: number; host: string; id: string }

const heldHere = new Set<string>()

const isMissing = (error: unknown) => (error as NodeJS.ErrnoException).code === 'ENOENT'

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Whether the holder of a lock is gone for certain. A pid says something on its own host only. */
export function isStale(holder: Holder | null, untouchedMs: number): boolean {
  if (untouchedMs > untouchedMsMax) return true
  if (holder === null || holder.host !== hostname()) return false
  // After a restart in a container this process may have the very pid that the lock names.
  if (holder.pid === process.pid) return !heldHere.has(holder.id)
  return !isAlive(holder.pid)
}

function parseHolder(text: string): Holder | null {
  try {
    return JSON.parse(text) as Holder
  } catch {
    // Created a moment ago and not written yet, or no lock of ours.
    return null
  }
}

async function readLock(path: string): Promise<{ text: string; touchedAtMs: number } | null> {
  try {
    const [text, { mtimeMs }] = await Promise.all([readFile(path, 'utf8'), stat(path)])
    return { text, touchedAtMs: mtimeMs }
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

/** Takes a dead lock away, but not one that another process has just put in its place. */
async function clearStale(path: string, expected: string): Promise<void> {
  const aside = `${path}.${makeId('stale')}`
  try {
    await rename(path, aside)
  } catch (error) {
    if (isMissing(error)) return
    throw error
  }
  if ((await readFile(aside, 'utf8')) !== expected) await link(aside, path).catch(() => {})
  await rm(aside, { force: true })
}

async function tryCreate(path: string, holder: Holder): Promise<boolean> {
  try {
    await writeFile(path, JSON.stringify(holder), { flag: 'wx' })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

/** The lock was not free in time; `holder` is who has it, where that is known. */
export class LockTimeout extends Error {
  readonly holder: Holder | null

  constructor(path: string, holder: Holder | null) {
    super(`${path} is held by another process`)
    this.name = 'LockTimeout'
    this.holder = holder
  }
}

/** Waits at most `waitMs` for the lock at `path`; resolves with the function that frees it. Throws LockTimeout. */
export async function takeLock(
  path: string,
  options: { waitMs: number; clock: Clock; signal?: AbortSignal | undefined },
): Promise<() => Promise<void>> {
  const { clock, signal } = options
  const holder: Holder = { pid: process.pid, host: hostname(), id: makeId('lock') }
  const deadlineMs = clock.now() + options.waitMs
  heldHere.add(holder.id)
  try {
    while (!(await tryCreate(path, holder))) {
      const found = await readLock(path)
      if (found === null) continue
      const other = parseHolder(found.text)
      if (isStale(other, clock.wallMs() - found.touchedAtMs)) {
        await clearStale(path, found.text)
        continue
      }
      if (clock.now() >= deadlineMs) throw new LockTimeout(path, other)
      await clock.sleep(pollEveryMs, signal)
    }
  } catch (error) {
    heldHere.delete(holder.id)
    throw error
  }
  const stopTouching = clock.every(touchEveryMs, () => {
    const seconds = clock.wallMs() / 1000
    utimes(path, seconds, seconds).catch(() => {})
  })
  return async () => {
    stopTouching()
    heldHere.delete(holder.id)
    await rm(path, { force: true })
  }
}
