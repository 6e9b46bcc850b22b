import { readdirSync, readFileSync } from 'node:fs'

/** What a process costs, as Linux counts it. A process here includes its children: nginx has a worker, say. */

const tickMs = 10

/** CPU time that the threads of `pid` and of its children have used, user and system together. */
export function readCpuMs(pid: number): number {
  return listFamily(pid).reduce((sum, member) => sum + readOwnCpuMs(member), 0)
}

/** Resident memory of `pid` alone, now and at its peak. */
export function readMemory(pid: number): { residentBytes: number; peakBytes: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const readKib = (field: string) =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0)
  return { residentBytes: readKib('VmRSS') * 1024, peakBytes: readKib('VmHWM') * 1024 }
}

/** The scheduler counts nanoseconds per thread; where it does not tell, the ticks of the whole process must do. */
function readOwnCpuMs(pid: number): number {
  let nanoseconds = 0
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const schedstat = readOrNull(`/proc/${pid}/task/${thread}/schedstat`)
    if (schedstat === null) return readTicks(pid) * tickMs
    nanoseconds += Number(schedstat.split(' ')[0])
  }
  return nanoseconds / 1e6
}

function readTicks(pid: number): number {
  // The second field is the name of the program, in parentheses, and may hold spaces.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return Number(fields[11]) + Number(fields[12])
}

function listFamily(pid: number): number[] {
  const children = (readOrNull(`/proc/${pid}/task/${pid}/children`) ?? '').split(' ').filter(Boolean)
  return [pid, ...children.flatMap((child) => listFamily(Number(child)))]
}

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}
