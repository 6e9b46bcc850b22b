import { readFileSync, watch, type FSWatcher } from 'node:fs'
import { dirname } from 'node:path'
import type { Clock } from '../core/clock.ts'
import type { Service } from '../core/service.ts'

/** An editor saves in several steps; the file is read when they are over. */
const settleMs = 200

type WatchOptions = {
  /** Absolute path; null when there is no file, and SIGHUP alone is listened to. */
  file: string | null
  clock: Clock
  onChange: (reason: 'saved' | 'hangup') => void
  /** The folder cannot be watched (a limit of the system, say): from then on only SIGHUP reloads. */
  onBlind?: (error: Error) => void
}

function readText(file: string): string | null {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return null
  }
}

/**
 * Calls `onChange` when the text of the configuration file has changed, and on SIGHUP. The folder is watched rather
 * than the file: editors put a new file in place of the old one, and Kubernetes turns a link beside it.
 */
export function watchConfig({ file, clock, onChange, onBlind }: WatchOptions): Service {
  let watcher: FSWatcher | null = null
  let cancelCheck: (() => void) | null = null
  let lastText: string | null = null
  const onHangup = () => onChange('hangup')

  const check = () => {
    cancelCheck = null
    const text = file === null ? null : readText(file)
    // A file that is gone is about to come back; if not, what runs goes on.
    if (text === null || text === lastText) return
    lastText = text
    onChange('saved')
  }
  const stop = async () => {
    process.off('SIGHUP', onHangup)
    cancelCheck?.()
    cancelCheck = null
    watcher?.close()
    watcher = null
  }
  const start = async () => {
    await stop()
    process.on('SIGHUP', onHangup)
    if (file === null) return
    lastText = readText(file)
    try {
      watcher = watch(dirname(file), { persistent: false }, () => {
        // The first event sets the time: a busy folder must not put the check off for ever.
        cancelCheck ??= clock.after(settleMs, check)
      })
      watcher.on('error', (error) => {
        watcher?.close()
        watcher = null
        onBlind?.(error)
      })
    } catch (error) {
      onBlind?.(error as Error)
    }
  }
  return { name: 'config-watch', start, stop }
}
