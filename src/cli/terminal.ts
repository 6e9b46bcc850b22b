import { closeSync, openSync } from 'node:fs'

/** True while this process has a terminal of its own that is still there. */
export function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'))
    return true
  } catch {
    return false
  }
}
