import type { Path, Place } from './problem.ts'

/** One value from the environment or the command line, on its way over the file. */
export type Setting = { path: Path; value: unknown; place: Place }

const isContainer = (value: unknown): value is Record<string | number, unknown> =>
  typeof value === 'object' && value !== null

/**
 * Lays `value` over `settings` at `path`; sections on the way are made. False when something that is not a section
 * stands in the way: the check of the schema will name that.
 */
export function putAt(settings: Record<string, unknown>, path: Path, value: unknown): boolean {
  let here: Record<string | number, unknown> = settings
  for (const step of path.slice(0, -1)) {
    here[step] ??= {}
    const next = here[step]
    if (!isContainer(next)) return false
    here = next
  }
  here[path.at(-1)!] = value
  return true
}

/** The setting that gave the value at `path`, or a part of which gave it; the last one wins. */
export function findSetting(settings: readonly Setting[], path: Path): Setting | null {
  const covers = (setting: Setting) => setting.path.every((step, at) => path[at] === step)
  return settings.findLast(covers) ?? null
}
