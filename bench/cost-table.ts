import type { Comparison } from './compare-cpu.ts'
import type { Finding } from './finding.ts'
import { median, medianRatio } from './statistics.ts'
import { formatRatio, formatUs, printTable } from './table.ts'

type Column = { heading: string; cell(comparison: Comparison): string }

/** Prints what each proxy took for a unit (a request, a chunk); the first comparison is the one to measure by. */
export function printCosts(unit: string, comparisons: readonly Comparison[], column: Column): void {
  const reference = comparisons[0]?.costs ?? []
  printTable(
    ['proxy', `CPU a ${unit}`, 'ratio', 'lowest', 'highest', column.heading],
    comparisons.map((comparison) => [
      comparison.name,
      formatUs(median(comparison.costs)),
      formatRatio(medianRatio(comparison.costs, reference)),
      formatUs(Math.min(...comparison.costs)),
      formatUs(Math.max(...comparison.costs)),
      column.cell(comparison),
    ]),
  )
}

/** Whether `ours` costs at most `ratioMax` times what `reference` does. */
export function judgeCost(options: {
  what: string
  ours: Comparison
  reference: Comparison
  ratioMax: number
}): Finding {
  const { what, ours, reference, ratioMax } = options
  const ratio = medianRatio(ours.costs, reference.costs)
  return {
    what,
    figure: formatUs(median(ours.costs)),
    reference: `${formatRatio(ratio)} the ${reference.name} (${formatUs(median(reference.costs))})`,
    target: `at most ${formatRatio(ratioMax)}`,
    met: ratio <= ratioMax,
  }
}
