import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { SetupError } from '../../core/errors.ts'

/**
 * Keeps a second server out of a data folder. The lock is the operating system's, held through SQLite on an empty file
 * beside the database: it ends with its process, however that ends, and needs no guess whether a holder still lives.
 */
export function lockDatabase(path: string): () => void {
  const pidPath = `${path}.pid`
  const handle = new DatabaseSync(`${path}.lock`, { timeout: 0 })
  try {
    handle.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
  } catch (error) {
    handle.close()
    if ((error as { errcode?: number }).errcode !== 5) throw error
    throw new SetupError(
      `${path} is in use by another server${showHolder(readPid(pidPath))}: two servers can't share a data folder. ` +
        'Stop that one, give this one another `dataDir`, or let both use PostgreSQL (`storage.url`).',
    )
  }
  try {
    writeFileSync(pidPath, `${process.pid}\n`)
  } catch {
    // A full disk: the lock holds, and only its message to others will not name this process.
  }
  return () => {
    rmSync(pidPath, { force: true })
    handle.close()
  }
}

const showHolder = (pid: string) => (pid === '' ? '' : ` (process ${pid})`)

/** Of the server that has the database open; empty when none is known. */
function readPid(pidPath: string): string {
  try {
    return readFileSync(pidPath, 'utf8').trim()
  } catch {
    return ''
  }
}
