import type { Clock } from '../core/clock.ts'

/**
 * One Ctrl-C can arrive twice: from the terminal, and once more from npm, which passes on what it received itself.
 * A second one counts only when it cannot be the same key press.
 */
export const samePressMs = 500

export const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const
export type StopSignal = keyof typeof exitCodes

/** Calls `onFirst` at the first SIGINT or SIGTERM and `onSecond` at the next. The returned function stops listening. */
export function listenForStop(options: {
  clock: Clock
  onFirst: (signal: StopSignal) => void
  onSecond: (signal: StopSignal) => void
}): () => void {
  let firstMs: number | null = null
  const listener = (signal: NodeJS.Signals) => {
    if (firstMs === null) {
      firstMs = options.clock.now()
      options.onFirst(signal as StopSignal)
    } else if (options.clock.now() - firstMs >= samePressMs) {
      options.onSecond(signal as StopSignal)
    }
  }
  process.on('SIGINT', listener)
  process.on('SIGTERM', listener)
  return () => {
    process.off('SIGINT', listener)
    process.off('SIGTERM', listener)
  }
}
