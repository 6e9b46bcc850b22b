/** Prints rows below their headings, the first column to the left and the others to the right. */
export function printTable(headings: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = headings.map((heading, i) =>
    Math.max(heading.length, ...rows.map((row) => row[i]?.length ?? 0)),
  )
  const format = (row: readonly string[]) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ')
      .trimEnd()
  console.log(`  ${format(headings)}`)
  console.log(`  ${widths.map((width) => '-'.repeat(width)).join('  ')}`)
  for (const row of rows) console.log(`  ${format(row)}`)
}

export const formatUs = (us: number) => `${us.toFixed(1)} µs`
export const formatMs = (ms: number) => `${ms.toFixed(2)} ms`
export const formatRatio = (ratio: number) => `${ratio.toFixed(2)}×`
export const formatMb = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`
