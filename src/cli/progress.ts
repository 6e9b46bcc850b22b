import type { Clock } from '../core/clock.ts'

type Progress = { label: string; doneBytes: number; totalBytes: number | null }

const units = ['B', 'kB', 'MB', 'GB', 'TB']

/** `1536000` -> `1.5 MB` */
export function formatBytes(bytes: number): string {
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3))
  const value = bytes / 1000 ** power
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`
}

const barCells = 24

function drawBar(share: number): string {
  const filled = Math.floor(share * barCells)
  return '█'.repeat(filled) + '░'.repeat(barCells - filled)
}

export function formatProgress({ label, doneBytes, totalBytes }: Progress): string {
  if (totalBytes === null || totalBytes === 0) return `${label} ${formatBytes(doneBytes)}`
  const share = Math.min(1, doneBytes / totalBytes)
  return `${label} ${drawBar(share)} ${Math.floor(share * 100)}% of ${formatBytes(totalBytes)}`
}

type Counts = { label: string; done: number; failed: number; total: number }

/** `in_progress ████░░░░ 40% 398 of 1000, 2 failed` */
export function formatCounts({ label, done, failed, total }: Counts): string {
  const share = total === 0 ? 0 : Math.min(1, (done + failed) / total)
  const failures = failed === 0 ? '' : `, ${failed} failed`
  return `${label} ${drawBar(share)} ${Math.floor(share * 100)}% ${done} of ${total} done${failures}`
}

const barEveryMs = 100
const lineEveryMs = 5000

/** Shows one line that changes on a terminal, elsewhere a line now and then; a last one always. */
export function makeStatusLine(
  stream: NodeJS.WriteStream,
  clock: Clock,
): (text: string, isLast: boolean) => void {
  let lastMs = -Infinity
  return (text, isLast) => {
    const everyMs = stream.isTTY ? barEveryMs : lineEveryMs
    if (!isLast && clock.now() - lastMs < everyMs) return
    lastMs = clock.now()
    if (stream.isTTY) stream.write(`\r\u001b[2K${text}${isLast ? '\n' : ''}`)
    else stream.write(`${text}\n`)
  }
}

/** Shows how far a transfer of bytes is. */
export function makeProgress(stream: NodeJS.WriteStream, clock: Clock): (progress: Progress) => void {
  const show = makeStatusLine(stream, clock)
  return (progress) => {
    const { doneBytes, totalBytes } = progress
    show(formatProgress(progress), totalBytes !== null && doneBytes >= totalBytes)
  }
}
