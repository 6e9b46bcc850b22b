import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * A new folder for the Unix sockets of this process, named after it. Folders of processes that are gone without
 * having tidied up (`kill -9`) are removed on the way.
 */
export async function makeSocketFolder(): Promise<string> {
  for (const name of await readdir(tmpdir())) {
    const owner = /^autoglm-(\d+)-\w+$/.exec(name)?.[1]
    // Another user's folder cannot be removed, which is no reason not to start.
    if (owner && !isRunning(Number(owner))) {
      await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => {})
    }
  }
  return mkdtemp(join(tmpdir(), `autoglm-${process.pid}-`))
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // It runs, but is somebody else's.
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
