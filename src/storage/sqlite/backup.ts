import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { SetupError } from '../../core/errors.ts'
import { Database } from './database.ts'
import { ownFile } from './private-file.ts'

/**
 * Writes a consistent copy to a new file, beside a server that goes on. It is a database of its own: copied to the
 * place of the first one, it is taken up. Under its last name it is whole and on disk.
 */
export function backUp(path: string, target: string): void {
  if (existsSync(target))
    throw new SetupError(`${target} is there already; a backup is written to a new file.`)
  if (!existsSync(dirname(target)))
    throw new SetupError(`${dirname(target)} is not there; make the folder first.`)
  const part = `${target}.part`
  rmSync(part, { force: true })
  const database = openExisting(path)
  try {
    // Private before the first byte is in it: it holds prompts, and the secrets that sign tokens.
    closeSync(openSync(part, 'wx', ownFile))
    database.handle.prepare('VACUUM INTO ?').run(part)
  } catch (error) {
    rmSync(part, { force: true })
    throw error
  } finally {
    database.close()
  }
  sync(part)
  renameSync(part, target)
  sync(dirname(target))
}

function sync(path: string): void {
  const file = openSync(path, 'r')
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/** For reading, beside a server or without one. */
export function openExisting(path: string): Database {
  if (!existsSync(path)) throw new SetupError(`${path} is not there: no server has stored anything here yet.`)
  return new Database(path, { readOnly: true })
}
