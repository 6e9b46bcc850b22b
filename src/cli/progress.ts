import type { Clock } from '../core/clock.ts'

export type Progress = { label: string; doneBytes: number; totalBytes: number | null }

const units = ['B', 'kB', 'MB', 'GB', 'TB']

/** `1536000` -> `1.5 MB` */
export function formatBytes(bytes: number): string {
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3))
  const value = bytes / 1000 ** power
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`
}

const barCells = 24

export function formatProgress({ label, doneBytes, totalBytes }: Progress): string {
  if (totalBytes === null || totalBytes === 0) return `${label} ${formatBytes(doneBytes)}`
  const share = Math.min(1, doneBytes / totalBytes)
  const filled = Math.floor(share * barCells)
  const bar = '█'.repeat(filled) + '░'.repeat(barCells - filled)
  return `${label} ${bar} ${Math.floor(share * 100)}% of ${formatBytes(totalBytes)}`
}

const barEveryMs = 100
const lineEveryMs = 5000

/** Shows progress on `stream`: a bar that moves on a terminal, elsewhere a line now and then. */
export function makeProgress(stream: NodeJS.WriteStream, clock: Clock): (progress: Progress) => void {
  let lastMs = -Infinity
  return (progress) => {
    const isDone = progress.totalBytes !== null && progress.doneBytes >= progress.totalBytes
    const everyMs = stream.isTTY ? barEveryMs : lineEveryMs
    if (!isDone && clock.now() - lastMs < everyMs) return
    lastMs = clock.now()
    const text = formatProgress(progress)
    if (stream.isTTY) stream.write(`\r\u001b[2K${text}${isDone ? '\n' : ''}`)
    else stream.write(`${text}\n`)
  }
}
