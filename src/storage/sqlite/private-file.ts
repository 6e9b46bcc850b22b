import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { SetupError } from '../../core/errors.ts'

/** What is stored are prompts and answers: they are read by the user of the server alone. */
const ownFolder = 0o700
export const ownFile = 0o600

/**
 * Makes the folder and the file of a database where they are not there, for their owner alone; SQLite gives the files
 * beside it the same rights. What is there keeps the rights that somebody gave it. Throws SetupError.
 */
export function prepareDatabaseFile(path: string): void {
  const folder = dirname(path)
  try {
    mkdirSync(folder, { recursive: true, mode: ownFolder })
    if (!existsSync(path)) closeSync(openSync(path, 'a', ownFile))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST' || code === 'ENOTDIR')
      throw new SetupError(`${folder} is no folder; choose another with --data-dir.`)
    if (code === 'EACCES' || code === 'EROFS' || code === 'EPERM') {
      throw new SetupError(
        `${folder} can't be written to; give this user the right to, or choose another with --data-dir.`,
      )
    }
    throw new SetupError(`${path} can't be made: ${(error as Error).message}`)
  }
}
